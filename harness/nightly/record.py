# SPDX-License-Identifier: GPL-2.0-only
"""The record of a night, ``results/nightly/<night>/nightly.json``. It is written before the first cell runs.

A night is a list of *cells*: a kernel, a flavour, a machine, a suite and a QEMU. Each cell is one or more runs of
``vfio-harness run`` or ``kvm-test``, whose records lie beside this one. So what did not run is visible: its cell has no
run.
"""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.host.files import write_atomically

SCHEMA = "vfio-harness/nightly/1"
"""The version of the record. It changes when a reader of old records would misread a new one."""
FILE = "nightly.json"
COMPLETED = (0, 1, 2, 3)
"""The exit codes of a run that has come to its own end."""
RUN, KVM_TEST = "run", "kvm-test"
"""The subcommands of ``vfio-harness`` that run a cell. ``kvm-test`` is a suite of the plan, too: its own cases."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cell(_Record):
    """One combination of the plan."""

    id: str
    """Its name, unique in the night, e.g. ``linus-release-intel-iommu-default``: letters, digits, ``.`` and ``-``."""
    tree: str
    """The name of the tree in the plan."""
    kernel: str | None
    """The value of KERNEL=; None for the pinned kernel."""
    series: str | None = None
    """The value of SERIES=."""
    flavour: str
    """The value of FLAVOUR=."""
    machine: str
    """The value of MACHINE=."""
    suite: str
    """The value of SUITE=; ``kvm-test`` for the cases of vm-configs/kvm-test.yaml."""
    qemu: str | None = None
    """The value of QEMU=; None for the default."""
    focus: bool = False
    """Whether only the cases of the machine's focus run."""
    owner: str = ""
    """Who looks after this line of the plan."""
    expected_s: float | None = None
    """How long it took before, in seconds; None if it has never run."""
    cases: list[str] = Field(default_factory=list)
    """The ids of the cases that it must judge. One that no run has judged is a MISS."""

    @property
    def command(self) -> str:
        """The subcommand of ``vfio-harness`` that runs it."""
        return KVM_TEST if self.suite == KVM_TEST else RUN


class Why(StrEnum):
    """Why a run was made."""

    PLAN = "plan"
    """The plan asks for it."""
    AGAIN = "ERROR again"
    """The cases of an earlier run that were ERROR, once more on a fresh machine."""
    RATE = "rate"
    """The cases that fail now and passed last night, several times: how often do they fail?"""


class CellRun(_Record):
    """One run of a cell."""

    directory: str
    """Its results directory, relative to the night's: it holds ``report.json`` if the run got that far."""
    why: Why
    started: str
    """ISO 8601, UTC."""
    seconds: float | None = None
    """How long it took; None while it runs, and if the night was killed meanwhile."""
    exit_code: int | None = None
    """Of its command; None while it runs, and if its process or its host was lost."""
    host: str = ""
    """The worker that ran it; empty for this host."""
    error: str = ""
    """Why it has no record, or not a whole one, in one sentence; empty if it has one."""

    @property
    def completed(self) -> bool:
        """Whether its command came to its own end."""
        return self.exit_code in COMPLETED

    @property
    def lost(self) -> bool:
        """Whether its worker was lost, as ``error`` says."""
        return self.exit_code is None and bool(self.error)


class CellResult(_Record):
    """What has become of a cell."""

    cell: str
    """The id of the cell."""
    runs: list[CellRun] = Field(default_factory=list)
    """Its runs, in order. None: the cell has not run, and all its cases are MISS."""


ChangeKind = Literal["broken", "fixed", "missing", "new", "other"]


class CaseChange(_Record):
    """A case whose verdict differs from that of the last night."""

    cell: str
    """The id of the cell."""
    case: str
    """The id of the case."""
    kind: ChangeKind
    """broken: it is bad now. fixed: it was bad, and passes now. missing: it was judged, and now it is MISS, ERROR or
    SKIP. new: no earlier night has judged it. other: neither of its verdicts is bad, or both are."""
    before: str
    """The verdict of the last night that has judged it; empty if there is none."""
    after: str
    """The verdict, or MISS."""
    reason: str = ""
    """The reason of the verdict, in one sentence."""
    rate: str = ""
    """How often it failed when it was repeated, e.g. ``3 of 10``; empty if it was not."""
    fingerprint: str = ""
    """Groups equal splats; empty without a splat."""
    commit: str = ""
    """The first bad commit, 40 hex digits and its subject; empty if it was not searched or not found."""
    last_good: str = ""
    """The newest earlier night in which it passed, if it is bad now; empty if none of those compared."""


class Night(_Record):
    """The content of ``nightly.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    night: str
    """The name of its directory, e.g. ``2026-11-29``, or ``2026-11-29-2`` for the second of a day."""
    started: str
    """ISO 8601, UTC."""
    ended: str | None = None
    """When it ended; None while it runs, and if it was killed."""
    deadline_s: float | None = None
    """How long it may take, in seconds."""
    plan: str
    """The file of the plan."""
    cells: list[Cell]
    """The plan, in the order in which it runs."""
    results: list[CellResult]
    """One for each cell, in the same order."""
    changes: list[CaseChange] = Field(default_factory=list)
    """What differs from the last night. Filled when the night ends."""

    def write(self, directory: Path) -> None:
        """Write ``nightly.json`` atomically."""
        write_atomically(directory / FILE, self.model_dump_json(by_alias=True, indent=2) + "\n")

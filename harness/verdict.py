# SPDX-License-Identifier: GPL-2.0-only
"""Define the verdicts and the run record (``report.json``). docs/design.md explains each verdict."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "vfio-harness/report/1"
"""The version of the run record. It changes when a reader of old records would misread a new one."""


class Verdict(StrEnum):
    """The result of a case. Only FAIL, SPLAT, HANG and CRASH blame the kernel."""

    PASS = "PASS"
    FAIL = "FAIL"
    SPLAT = "SPLAT"
    HANG = "HANG"
    CRASH = "CRASH"
    KNOWN = "KNOWN"
    FIXED = "FIXED"
    SKIP = "SKIP"
    ERROR = "ERROR"


KERNEL_AT_FAULT = frozenset({Verdict.FAIL, Verdict.SPLAT, Verdict.HANG, Verdict.CRASH})
"""The verdicts that blame the kernel."""
BAD = KERNEL_AT_FAULT | {Verdict.ERROR}
"""The verdicts that a user must look at: reports show them first, with their evidence."""
GOOD = frozenset({Verdict.PASS, Verdict.FIXED})
"""The verdicts of a case whose rule held."""
NEEDS_FRESH_MACHINE = frozenset({Verdict.SPLAT, Verdict.HANG, Verdict.CRASH, Verdict.ERROR})
"""The verdicts after which the next case gets a freshly booted machine."""
WORST_FIRST = (
    Verdict.CRASH,
    Verdict.HANG,
    Verdict.SPLAT,
    Verdict.FAIL,
    Verdict.ERROR,
    Verdict.KNOWN,
    Verdict.FIXED,
    Verdict.PASS,
    Verdict.SKIP,
)
"""The order of the verdicts in lists, and of what one case raises: the first of these is its verdict.

A splat comes before a broken rule, because it names the cause. A lost or stuck guest comes before both, because nothing
can follow it. The harness's own failure comes last of the bad ones, so that a broken rule before it stays visible.
"""

Source = Literal["host", "qmp", "trace", "console", "guest"]
"""Where an observation comes from."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(_Record):
    """One observation."""

    t: float
    """Seconds since the case began, on the host's monotonic clock."""
    source: Source
    """Who observed it."""
    text: str
    """What was observed, escaped."""


class ProgramRecord(_Record):
    """The shortest random program that fails."""

    file: str
    """The file that holds it, for PROGRAM=."""
    calls: list[str]
    """Its calls."""


class RateRecord(_Record):
    """How often a repeated case failed. FAIL, SPLAT, HANG, CRASH and KNOWN count as failures."""

    bad: int
    """How many repetitions failed."""
    runs: int
    """How many repetitions count: all but ERROR and SKIP."""
    not_counted: int = 0
    """How many repetitions were ERROR or SKIP."""
    low: float
    """The lower confidence bound of the failure rate, from 0 to 1: harness/report/rate.py."""
    high: float
    """The upper confidence bound of the failure rate."""
    confidence: float
    """The probability that bounds found in this way include the true rate, e.g. 0.95."""


class CaseRecord(_Record):
    """The verdict of one case, with its evidence."""

    id: str
    """File, function and parameters, e.g. ``test_cmb::test_cmb_read[rxe]``."""
    area: str
    """The section of the contract that the case tests, e.g. ``revoke``."""
    title: str
    """The first line of the docstring of the case."""
    importer: str | None = None
    """The importer, e.g. ``iommufd+nvme``, if the case takes one."""
    trigger: str | None = None
    """What revokes the buffer, if the case is parametrized by it."""
    verdict: Verdict
    """The verdict."""
    reason: str = ""
    """Why, in one sentence. Empty for PASS."""
    started: str | None = None
    """When it started: ISO 8601, UTC. None if it never started."""
    duration_s: float
    """Set-up, call and teardown together, in seconds."""
    known_issue: str | None = None
    """The id of the known-issues entry that matches, for KNOWN and FIXED."""
    seed: int | None = None
    """The seed of the random choices, if the case makes any."""
    program: ProgramRecord | None = None
    """The calls that show the failure, if the case has drawn them."""
    ran_in: str | None = None
    """The directory of its machine, in the directory of the run."""
    recording: str | None = None
    """The file with its calls for `vfio-harness reproducer`, in the directory of the run, if it blames the kernel."""
    rate: RateRecord | None = None
    """With ``--repeat``: how often it failed. The rest is of the repetition with the worst verdict. None without."""
    evidence: list[Evidence] = Field(default_factory=list)
    """What the guest, the host and QEMU observed, in order of time."""


class HostRecord(_Record):
    """The host of a run."""

    qemu: str
    """The version of QEMU, as ``qemu --version`` prints it."""
    accel: str
    """``kvm`` or ``tcg``."""
    accel_reason: str
    """Why this accelerator was chosen."""
    cpu: str
    """The model of the host's processor."""


class GitRecord(_Record):
    """The git commit that a kernel was built from."""

    url: str
    """The repository: the URL of ``KERNEL=git:URL@REF``, else the directory."""
    ref: str = ""
    """The REF of KERNEL=, or the branch of a checkout. Empty if HEAD is detached."""
    commit: str
    """The commit, 40 hex digits."""
    describe: str = ""
    """As ``git describe`` prints it, with ``-dirty`` if ``dirty``. Empty if no tag is reachable."""
    dirty: bool = False
    """Whether tracked files of a checkout differed from the commit."""


class BuildRecord(_Record):
    """How a kernel was built."""

    architecture: str
    """E.g. ``x86_64``."""
    compiler: str = ""
    """The compiler's first line of ``--version``: CONFIG_CC_VERSION_TEXT."""
    started: str | None = None
    """When the last build that changed anything started: ISO 8601, UTC. None if the harness did not build it."""
    duration_s: float | None = None
    """How long that build took, in seconds. It may have compiled a single file."""
    log: str | None = None
    """The file with that build's output, in the directory of the run."""
    config: str | None = None
    """The kernel's ``.config``, in the directory of the run."""


class PatchRecord(_Record):
    """One patch of SERIES=."""

    subject: str
    """Its subject, with its number in the series."""
    message_id: str = ""
    """The Message-ID of its mail, without angle brackets. Empty if it was no mail."""
    sha256: str
    """The SHA-256 of its diff with Unix newlines: 64 hex digits."""


class KernelRecord(_Record):
    """The kernel under test."""

    release: str
    """The release, as ``uname -r`` prints it, or ``not built``."""
    origin: str
    """Where the kernel comes from, e.g. ``debian:7.2.12``."""
    config_hash: str
    """A hash of the kernel's ``.config``."""
    patches: list[str] = Field(default_factory=list)
    """The subjects of the patches of SERIES=."""
    features: dict[str, bool] = Field(default_factory=dict)
    """Each optional capability, and whether the kernel has it."""
    git: GitRecord | None = None
    """The commit of its source. None if the source is not from git."""
    build: BuildRecord | None = None
    """How it was built. None if it was not."""
    series: list[PatchRecord] = Field(default_factory=list)
    """The patches of SERIES=, in the order in which they were applied."""


class PhaseRecord(_Record):
    """A part of the run that is no case: the kernel's build, or the boot of a machine."""

    phase: str
    """Its name, e.g. ``kernel`` or ``boot``."""
    detail: str = ""
    """What it produced."""
    seconds: float
    """How long it took. Machines boot side by side, so the phases of a run may take longer than the run."""
    steps: dict[str, float] = Field(default_factory=dict)
    """When each of its steps was done, in seconds since its start."""


class NoLongerSeen(_Record):
    """A known issue that a case does not show on a changed kernel."""

    issue: str
    """The id of the known-issues entry."""
    case: str
    """The id of the case, whose verdict is FIXED."""


class ShardRecord(_Record):
    """The part of a run that ``--shard`` chose."""

    index: int
    """Its number, from 1."""
    count: int
    """The number of shards."""
    cases: list[str]
    """The ids of the cases of all shards, in the order of collection."""
    settings: dict[str, str] = Field(default_factory=dict)
    """The make variables that repeat the run."""


class RunRecord(_Record):
    """A run: the content of ``report.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    """The version of the record."""
    run_id: str
    """The name of the directory of the run."""
    started: str
    """When the run started: ISO 8601, UTC."""
    duration_s: float
    """How long it took, in seconds."""
    harness: str
    """The version of vfio-harness."""
    host: HostRecord
    """The host."""
    kernel: KernelRecord
    """The kernel under test."""
    machine: str
    """The name of the machine."""
    summary: dict[str, int]
    """How many cases got each verdict."""
    no_longer_seen: list[NoLongerSeen] = Field(default_factory=list)
    """If SERIES= or MUTATION= changed the kernel: the cases that are FIXED."""
    phases: list[PhaseRecord] = Field(default_factory=list)
    """What the run did beside its cases, in the order in which it was done."""
    shard: ShardRecord | None = None
    """With ``--shard``: which part of the cases this run has."""
    cases: list[CaseRecord]
    """The cases, in the order of collection."""


def worst_of(cases: Iterable[CaseRecord]) -> CaseRecord:
    """Return the record with the worst verdict, of several judgements of one case; the earliest of these.

    ERROR comes last here, after SKIP: it says nothing about the kernel, so any other judgement of the case replaces it.
    """
    return min(cases, key=lambda case: (case.verdict is Verdict.ERROR, WORST_FIRST.index(case.verdict)))


def exit_code(verdicts: list[Verdict]) -> int:
    """Return the exit code: 0 if the contract held, 1 if the kernel is at fault, 3 if the harness or the host failed.

    Where both happened, the code is 1.
    """
    if any(v in KERNEL_AT_FAULT for v in verdicts):
        return 1
    return 3 if Verdict.ERROR in verdicts else 0

# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness mutants --model`` (``model-mutants.json``): which bugs random programs find."""

import math
from collections.abc import Sequence

from pydantic import Field

from harness.errors import HarnessError
from harness.report.outcomes import Record
from harness.report.record import RunDirectory, write_report
from harness.report.text import one_line
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, KernelRecord, Verdict

SCHEMA = "vfio-harness/model-mutants/1"
LATEST = "latest-model-mutants"
TARGET = 0.5
"""The share of the bugs that the suite ``model`` must find."""


class ModelMutantRecord(Record):
    """The run of the suite ``model`` on a kernel with one bug put back, or with none."""

    id: str
    """The id of the bug; ``control`` for the kernel without one."""
    verdict: Verdict
    """The worst verdict. It blames the kernel if a program found the bug."""
    seconds: float
    """How long the programs ran, those that shrink a failure included."""
    calls: list[str]
    """The shortest program that fails."""
    reason: str = ""
    """The reason of the verdict, or the error that ended the run."""

    @property
    def found(self) -> bool:
        """Whether a program found a fault of the kernel."""
        return self.verdict in KERNEL_AT_FAULT

    @classmethod
    def of(cls, name: str, cases: Sequence[CaseRecord], error: str) -> "ModelMutantRecord":
        """Make it from the cases that have run, or from the error that ended the run without any."""
        if not cases:
            return cls(id=name, verdict=Verdict.ERROR, seconds=0, calls=[], reason=error)
        bad = [case for case in cases if case.verdict in KERNEL_AT_FAULT]
        decides = (bad or [case for case in cases if case.verdict is Verdict.ERROR] or cases)[0]
        return cls(
            id=name,
            verdict=decides.verdict,
            seconds=round(sum(case.duration_s for case in cases), 1),
            calls=decides.program.calls if decides.program else [],
            reason=one_line(decides.reason),
        )

    def __str__(self) -> str:
        """Return one line."""
        found = "ERROR" if self.verdict is Verdict.ERROR else "found" if self.found else "not found"
        program = "; ".join(line for line in self.calls if line and not line.startswith("#"))
        words = [f"{self.verdict} by {program}:" if program else "", self.reason if self.verdict != "PASS" else ""]
        return f"{found:<10} {self.seconds:6.1f} s  {self.id} {' '.join(filter(None, words))}".rstrip()


class ModelMutantsRecord(Record):
    """``model-mutants.json``."""

    schema_: str = Field(SCHEMA, alias="schema")
    """The version of the record."""
    run_id: str
    """The name of the directory of the run."""
    started: str
    """When the run started: ISO 8601, UTC."""
    harness: str
    """The version of vfio-harness."""
    kernel: KernelRecord
    """The kernel that the bugs were put back into."""
    seed: int
    """The seed of the programs."""
    control: ModelMutantRecord | None
    """The run without a bug; None if it was not asked for."""
    mutants: list[ModelMutantRecord]
    """The bugs, in the order of their runs."""

    @property
    def exit_code(self) -> int:
        """0 if the target is met and the kernel without a bug passes, 3 if a run has failed, else 1."""
        runs = [*self.mutants, *([self.control] if self.control else [])]
        if any(run.verdict is Verdict.ERROR for run in runs):
            return HarnessError.exit_code
        blamed = self.control is not None and self.control.found
        return 1 if blamed or sum(each.found for each in self.mutants) < TARGET * len(self.mutants) else 0

    def tally(self) -> str:
        """Return the counts, e.g. ``17 of 31 found; target 16; control: PASS``."""
        count, target = len(self.mutants), math.ceil(TARGET * len(self.mutants))
        control = f"; control: {self.control.verdict}" if self.control else ""
        return f"{sum(each.found for each in self.mutants)} of {count} found; target {target}{control}"


def write(record: ModelMutantsRecord, directory: RunDirectory) -> None:
    """Write ``model-mutants.json``, then point ``latest-model-mutants`` at its directory."""
    write_report(directory.path / "model-mutants.json", record.model_dump_json(by_alias=True, indent=2) + "\n")
    directory.link_as(LATEST)

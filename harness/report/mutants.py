# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness mutants``, ``mutants.json``, and its page: which bugs, put back, the cases catch."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import HarnessError
from harness.report import pages
from harness.report.record import RunDirectory, write_report
from harness.report.text import one_line
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, KernelRecord, RunRecord, Verdict

SCHEMA = "vfio-harness/mutants/1"
LATEST = "latest-mutants"


class MutantOutcome(StrEnum):
    """What became of a bug that was put back. UNEXPECTED: caught, but with another verdict than its entry says. ERROR:
    it was not put to the test, as the mutation does not fit the kernel, or the harness or the host failed."""

    CAUGHT = "caught"
    UNEXPECTED = "UNEXPECTED"
    SURVIVED = "SURVIVED"
    ERROR = "ERROR"


_COLOURS: dict[MutantOutcome, Verdict] = {
    MutantOutcome.CAUGHT: Verdict.PASS,
    MutantOutcome.UNEXPECTED: Verdict.KNOWN,
    MutantOutcome.SURVIVED: Verdict.FAIL,
    MutantOutcome.ERROR: Verdict.ERROR,
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class MutantRecord(_Record):
    """One bug. ``verdict``, ``case``: the first that blamed the kernel, if any did. ``seconds``: from the change to its
    sources to the end of its machine. ``results``: the directory of its run, beside the record."""

    id: str
    title: str
    machine: str
    flavour: Literal["release", "debug"]
    expected: Verdict
    outcome: MutantOutcome
    verdict: Verdict | None = None
    case: str | None = None
    reason: str = ""
    seconds: float
    results: str

    def __str__(self) -> str:
        """One line."""
        said = [
            f"{self.id}:" if self.verdict or self.reason else self.id,
            self.verdict,
            f"and not {self.expected}" if self.outcome is MutantOutcome.UNEXPECTED else "",
            f"by {self.case}:" if self.case else "",
            one_line(self.reason),
        ]
        return f"{self.outcome:<10} {self.seconds:6.1f} s  {' '.join(filter(None, said))}"


class ControlRecord(_Record):
    """A run without any bug. ``bad``: the cases that did not do as on a good kernel, with verdict and reason."""

    machine: str
    flavour: Literal["release", "debug"]
    summary: dict[str, int]
    bad: list[str]
    seconds: float
    results: str


class MutantsRecord(_Record):
    """``mutants.json``. ``started`` is ISO 8601 in UTC. ``left_out``: the ids of bugs that are for other kernels."""

    schema_: str = Field(SCHEMA, alias="schema")
    run_id: str
    started: str
    duration_s: float
    harness: str
    kernel: KernelRecord
    summary: dict[str, int]
    controls: list[ControlRecord]
    mutants: list[MutantRecord]
    left_out: list[str]

    @property
    def exit_code(self) -> int:
        """0: all are caught as expected, and the controls pass; 1: not so; 3: the harness, the host or the catalogue
        failed, so that something was not put to the test."""
        bad = [case for run in self.controls for case in run.bad]
        if (
            self.summary[MutantOutcome.SURVIVED]
            or self.summary[MutantOutcome.UNEXPECTED]
            or not all(map(_is_error, bad))
        ):
            return 1
        return HarnessError.exit_code if bad or self.summary[MutantOutcome.ERROR] else 0

    def tally(self) -> str:
        """``48 caught, 1 SURVIVED; control: pass``."""
        counts = [f"{count} {outcome}" for outcome, count in self.summary.items() if count]
        bad = sum(len(run.bad) for run in self.controls)
        return f"{', '.join(counts) or 'no mutant'}; control: {f'{bad} bad' if bad else 'pass'}"


def _is_error(said: str) -> bool:
    return said.startswith(Verdict.ERROR)


def judge_mutant(cases: Sequence[CaseRecord], expected: Verdict) -> tuple[MutantOutcome, CaseRecord | None]:
    """What the cases say of a bug that is there, and the one that says it: the first to show what is expected, or else
    to blame the kernel. What is KNOWN of the kernel without the bug is no catch."""
    blaming = [case for case in cases if case.verdict in KERNEL_AT_FAULT]
    if found := next((case for case in blaming if case.verdict is expected), None):
        return MutantOutcome.CAUGHT, found
    if blaming:
        return MutantOutcome.UNEXPECTED, blaming[0]
    failed = next((case for case in cases if case.verdict is Verdict.ERROR), None)
    return (MutantOutcome.ERROR, failed) if failed else (MutantOutcome.SURVIVED, None)


def bad_cases(run: RunRecord) -> list[str]:
    """What is wrong with a run of a kernel that is to be good."""
    bad = KERNEL_AT_FAULT | {Verdict.ERROR}
    return [f"{case.verdict} {case.id}: {one_line(case.reason)}" for case in run.cases if case.verdict in bad]


def write(record: MutantsRecord, directory: RunDirectory) -> None:
    """Write both forms, and make ``latest-mutants`` lead to them."""
    write_report(directory.path / "mutants.json", record.model_dump_json(by_alias=True, indent=2) + "\n")
    write_report(directory.path / "mutants.html", render(record))
    directory.link_as(LATEST)


def render(record: MutantsRecord) -> str:
    """Render the page."""
    return pages.render(
        "mutants.html",
        title=f"vfio-harness: {len(record.mutants)} known bugs, put back into {record.kernel.release}",
        record=record,
        known={
            "run": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
            "kernel": f"{record.kernel.release} from {record.kernel.origin}",
            "for other kernels": ", ".join(record.left_out),
        },
        COLOURS=_COLOURS,
    )

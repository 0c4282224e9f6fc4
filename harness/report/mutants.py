# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness mutants`` (``mutants.json``) and its page: which known bugs the cases catch."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from harness.errors import HarnessError
from harness.report import pages
from harness.report.outcomes import COLOURS, MutantOutcome, Record, changed_cases
from harness.report.record import RunDirectory, write_report
from harness.report.text import one_line
from harness.verdict import BAD, KERNEL_AT_FAULT, CaseRecord, KernelRecord, RunRecord, Verdict

SCHEMA = "vfio-harness/mutants/4"
"""2: ``bad`` of a control has an object per case. It was a string. 3: the outcome CHANGED, and ``was``. 4: the outcome
missed."""
LATEST = "latest-mutants"


class MutantRecord(Record):
    """The run of the cases on a kernel with one bug put back."""

    id: str
    """The id of the bug."""
    title: str
    """The title of the bug."""
    machine: str
    """The machine, as its entry names it."""
    flavour: Literal["release", "debug"]
    """The flavour of the kernel."""
    expected: Verdict
    """The verdict that the entry expects."""
    outcome: MutantOutcome
    """Whether the cases caught the bug."""
    verdict: Verdict | None = None
    """The verdict of ``case``."""
    case: str | None = None
    """The id of the case that decided the outcome, if one did."""
    was: Verdict | None = None
    """The control's verdict of that case, if the control ran it."""
    reason: str = ""
    """The reason of that verdict, or the error that ended the run."""
    seconds: float
    """The time from the change of the source to the end of the machine."""
    results: str
    """The directory of the run, next to the record."""

    def __str__(self) -> str:
        """Return one line."""
        words = [
            f"{self.id}:" if self.verdict or self.reason else self.id,
            f"{self.was} -> {self.verdict}" if self.outcome is MutantOutcome.CHANGED else self.verdict,
            f"and not {self.expected}" if self.outcome is MutantOutcome.UNEXPECTED else "",
            f"by {self.case}:" if self.case else "",
            one_line(self.reason),
        ]
        return f"{self.outcome:<10} {self.seconds:6.1f} s  {' '.join(filter(None, words))}"


class BadCase(Record):
    """A case of a control that failed, or the error that ended the control."""

    verdict: Verdict
    """FAIL, SPLAT, HANG, CRASH or ERROR."""
    case: str | None = None
    """The id of the case. None: the control ended before its first case."""
    reason: str
    """The first line of the reason."""

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.verdict} {self.case}: {self.reason}" if self.case else f"{self.verdict}: {self.reason}"


class ControlRecord(Record):
    """The run of the cases on a kernel without a bug put back."""

    machine: str
    """The machine."""
    flavour: Literal["release", "debug"]
    """The flavour of the kernel."""
    summary: dict[str, int]
    """How many cases got each verdict."""
    bad: list[BadCase]
    """The cases that must pass and did not."""
    seconds: float
    """How long the run took."""
    results: str
    """The directory of the run, next to the record."""


class MutantsRecord(Record):
    """``mutants.json``."""

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
    kernel: KernelRecord
    """The kernel that the bugs were put back into."""
    summary: dict[str, int]
    """How many bugs had each outcome."""
    controls: list[ControlRecord]
    """The controls, one per machine and flavour."""
    mutants: list[MutantRecord]
    """The bugs, by id."""
    left_out: list[str]
    """The ids of the bugs whose mutation is for other kernels."""

    @property
    def exit_code(self) -> int:
        """0 if all bugs are caught as expected and the controls pass, else 1. CHANGED is not as expected.

        3 if the only trouble is that the harness, the host or the catalogue failed, so that something was not tested.
        """
        bad = [case for run in self.controls for case in run.bad]
        control_failed = any(case.verdict in KERNEL_AT_FAULT for case in bad)
        missed = (MutantOutcome.SURVIVED, MutantOutcome.UNEXPECTED, MutantOutcome.CHANGED)
        if control_failed or any(self.summary[outcome] for outcome in missed):
            return 1
        return HarnessError.exit_code if bad or self.summary[MutantOutcome.ERROR] else 0

    def tally(self) -> str:
        """Return the counts, e.g. ``48 caught, 1 SURVIVED; control: pass``."""
        counts = [f"{count} {outcome}" for outcome, count in self.summary.items() if count]
        bad = sum(len(run.bad) for run in self.controls)
        return f"{', '.join(counts) or 'no mutant'}; control: {f'{bad} bad' if bad else 'pass'}"


@dataclass(frozen=True)
class Decision:
    """The outcome of a mutant, and what decided it."""

    outcome: MutantOutcome
    case: CaseRecord | None = None
    """The case that decided, if one did."""
    was: CaseRecord | None = None
    """The same case in the control, if the control ran it."""


def judge_mutant(run: RunRecord, expected: Verdict, control: RunRecord | None) -> Decision:
    """Judge the run with a bug put back.

    ``expected`` is PASS on a machine where the bug survives, by its entry.
    The first case with the expected verdict decides, else the first that blames the kernel, else the first whose
    verdict the bug has changed. KNOWN as in the control does not count: the kernel fails that case without the bug too.

    ``control``: the same machine and flavour without the bug, perhaps with fewer cases; None if it has no record.
    """
    before = {case.id: case for case in control.cases} if control else {}
    blaming = [case for case in run.cases if case.verdict in KERNEL_AT_FAULT]
    if expected is Verdict.PASS:  # some cases do not suit a machine that has a focus
        blaming = [case for case in blaming if case.id not in before or before[case.id].verdict is not case.verdict]
    if found := next((case for case in blaming if case.verdict is expected), None):
        return Decision(MutantOutcome.CAUGHT, found, before.get(found.id))
    if blaming:
        return Decision(MutantOutcome.UNEXPECTED, blaming[0], before.get(blaming[0].id))
    if control and (changed := changed_cases(control, run)):
        was, case = changed[0]
        return Decision(MutantOutcome.CHANGED, case, was)
    failed = next((case for case in run.cases if case.verdict is Verdict.ERROR), None)
    if failed:
        return Decision(MutantOutcome.ERROR, failed)
    return Decision(MutantOutcome.MISSED if expected is Verdict.PASS else MutantOutcome.SURVIVED)


def bad_cases(run: RunRecord) -> list[BadCase]:
    """Return the cases that a good kernel must pass and that did not pass."""
    return [
        BadCase(verdict=case.verdict, case=case.id, reason=one_line(case.reason))
        for case in run.cases
        if case.verdict in BAD
    ]


def write(record: MutantsRecord, directory: RunDirectory) -> None:
    """Write ``mutants.json`` and ``mutants.html``, then point ``latest-mutants`` at their directory."""
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
        COLOURS=COLOURS,
    )

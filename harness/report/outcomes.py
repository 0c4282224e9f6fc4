# SPDX-License-Identifier: GPL-2.0-only
"""The outcomes of mutants, of the catalogue's and of those made by rule, and the case whose verdict decides one."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from harness.report.text import without_numbers
from harness.verdict import CaseRecord, RunRecord, Verdict


class MutantOutcome(StrEnum):
    """Whether the cases noticed a fault in the kernel."""

    CAUGHT = "caught"
    UNEXPECTED = "UNEXPECTED"
    """A case blames the kernel, but not with the verdict that the entry of the bug expects."""
    CHANGED = "CHANGED"
    """No case blames the kernel, but one has another verdict than in the control, e.g. FIXED where KNOWN was."""
    SURVIVED = "SURVIVED"
    MISSED = "missed"
    """It survived on a machine where its entry says so: another machine catches it."""
    EQUIVALENT = "equivalent"
    """It survived, and vm-configs/equivalent-mutants.yaml says why no case can notice it."""
    MASKED = "masked"
    """It survived, but each case that reaches it blames the kernel without it, too: fix these first."""
    ERROR = "ERROR"
    """Not tested: the kernel does not build or boot for a reason of ours, or the harness or the host failed."""


COLOURS: dict[MutantOutcome, Verdict] = {
    MutantOutcome.CAUGHT: Verdict.PASS,
    MutantOutcome.UNEXPECTED: Verdict.KNOWN,
    MutantOutcome.CHANGED: Verdict.KNOWN,
    MutantOutcome.SURVIVED: Verdict.FAIL,
    MutantOutcome.MISSED: Verdict.PASS,
    MutantOutcome.EQUIVALENT: Verdict.SKIP,
    MutantOutcome.MASKED: Verdict.SKIP,
    MutantOutcome.ERROR: Verdict.ERROR,
}
"""The pages show an outcome in the colour of this verdict."""


class Record(BaseModel):
    """A part of a record of mutants."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def changed_cases(control: RunRecord, mutated: RunRecord) -> list[tuple[CaseRecord, CaseRecord]]:
    """Return each case that says another thing than in the control, as it was and as it is.

    Good news counts: a KNOWN that becomes FIXED shows that the kernel behaves differently. So does a KNOWN of another
    issue, or a FAIL with another broken sentence. ERROR does not count, nor does a case that only one of the runs has.
    """
    before = {case.id: case for case in control.cases}
    pairs = [(before[case.id], case) for case in mutated.cases if case.id in before]
    return [(was, case) for was, case in pairs if differs(was, case)]


def differs(was: CaseRecord, case: CaseRecord) -> bool:
    """Return whether a case says another thing than in the control: see ``changed_cases``."""
    return Verdict.ERROR not in (was.verdict, case.verdict) and _said(was) != _said(case)


def _said(case: CaseRecord) -> tuple[object, ...]:
    """Return what a case says of the kernel, without what differs from run to run: numbers, and what was seen."""
    sentence = without_numbers(case.reason.partition("; seen:")[0]) if case.verdict is Verdict.FAIL else ""
    return case.verdict, case.known_issue, sentence


def untested_cases(control: RunRecord, mutated: RunRecord) -> list[CaseRecord]:
    """Return each case that is ERROR and was not in the control."""
    before = {case.id: case.verdict for case in control.cases}
    return [
        case
        for case in mutated.cases
        if case.verdict is Verdict.ERROR and before.get(case.id, Verdict.ERROR) is not Verdict.ERROR
    ]

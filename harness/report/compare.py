# SPDX-License-Identifier: GPL-2.0-only
"""Compares two runs of the same cases, for example on a kernel with and without a series."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import HarnessError
from harness.report.rate import as_text, rate_of, runs_to_fix
from harness.report.record import write_report
from harness.report.renamed import RenamedCases, renamed_cases
from harness.report.text import CHANGES_HINT, one_line, tally
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, RunRecord, Verdict

SCHEMA = "vfio-harness/compare/1"
REPORT = "compare.json"


class VerdictChange(StrEnum):
    """How the verdict of a case has changed."""

    BROKEN = "broken"
    FIXED = "fixed"
    NEW_KNOWN = "new known issue"
    NEW = "new"
    GONE = "no longer run"
    RARER = "fails less often"
    MORE_OFTEN = "fails more often"
    UNDECIDED = "rate not decided"
    OTHER = "bad in both runs, but differently"
    ERROR = "could not be judged"


_ALWAYS_LISTED = (VerdictChange.BROKEN, VerdictChange.FIXED, VerdictChange.NEW_KNOWN)

_State = Literal["good", "known", "bad", "absent", "error"]
_STATES: dict[Verdict, _State] = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "known",
    Verdict.SKIP: "absent",
    Verdict.ERROR: "error",
    **dict.fromkeys(KERNEL_AT_FAULT, "bad"),
}
_CHANGES: dict[tuple[_State, _State], VerdictChange] = {
    ("good", "known"): VerdictChange.NEW_KNOWN,
    ("absent", "known"): VerdictChange.NEW_KNOWN,
    ("bad", "known"): VerdictChange.NEW_KNOWN,
    ("good", "bad"): VerdictChange.BROKEN,
    ("known", "bad"): VerdictChange.BROKEN,
    ("absent", "bad"): VerdictChange.BROKEN,
    ("known", "good"): VerdictChange.FIXED,
    ("bad", "good"): VerdictChange.FIXED,
    ("absent", "good"): VerdictChange.NEW,
    ("good", "absent"): VerdictChange.GONE,
    ("known", "absent"): VerdictChange.GONE,
    ("bad", "absent"): VerdictChange.GONE,
}
"""The change from one state to a different one. ``error`` is not here: it always gives VerdictChange.ERROR."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Difference(_Data):
    """One case whose verdict has changed."""

    id: str
    """The id that the case has today."""
    change: VerdictChange
    before: Verdict | None
    """None: the case was not run."""
    after: Verdict | None
    """None: the case was not run."""
    reason: str
    """The reason of the later verdict."""


class Comparison(_Data):
    """``compare.json``."""

    schema_: str = Field(SCHEMA, alias="schema")
    before: str
    """Kernel, machine and tally of the earlier run."""
    after: str
    """Kernel, machine and tally of the later run."""
    notes: list[str] = Field(default_factory=list)
    """What limits the comparison, one line each."""
    differences: list[Difference]
    still: dict[str, int]
    """How many cases have ended as before, by verdict."""

    @property
    def exit_code(self) -> int:
        """1 if a case is broken or fails more often, else 3 if one could not be judged, else 0."""
        changes = {difference.change for difference in self.differences}
        if changes & {VerdictChange.BROKEN, VerdictChange.MORE_OFTEN}:
            return 1
        return HarnessError.exit_code if changes & {VerdictChange.ERROR, VerdictChange.UNDECIDED} else 0

    def write(self, directory: Path) -> None:
        """Write ``compare.json``."""
        write_report(directory / REPORT, self.model_dump_json(by_alias=True, indent=2) + "\n")

    def __str__(self) -> str:
        """List the differences with their reasons, then count the cases that have not changed."""
        lines = [f"before  {self.before}", f"after   {self.after}", *(f"note    {note}" for note in self.notes)]
        for change in VerdictChange:
            found = [difference for difference in self.differences if difference.change is change]
            if found or change in _ALWAYS_LISTED:
                lines += ["", f"{change}: {len(found)}"]
            for difference in found:
                lines.append(f"  {difference.id}: {difference.before or 'not run'} -> {difference.after or 'not run'}")
                if difference.reason:
                    lines.append(f"      {one_line(difference.reason)}")
            if any(difference.after is Verdict.FIXED for difference in found):
                lines.append(f"  {CHANGES_HINT}")
        return "\n".join([*lines, "", f"still: {tally(self.still)}"])


def compare(before: RunRecord, after: RunRecord, renamed: RenamedCases | None = None) -> Comparison:
    """Compare two runs. A case that ``renamed`` (default: renamed-cases.yaml) lists is paired by its current id."""
    names = renamed or renamed_cases()
    old = {names.current_id(case.id): case for case in before.cases}
    new = {names.current_id(case.id): case for case in after.cases}
    differences = list(_differences(old, new))
    changed = {difference.id for difference in differences}
    return Comparison(
        before=_kernel(before),
        after=_kernel(after),
        notes=list(_notes(before, after, old, new)),
        differences=differences,
        still=dict(Counter(str(case.verdict) for name, case in new.items() if name not in changed)),
    )


def _notes(
    before: RunRecord, after: RunRecord, old: dict[str, CaseRecord], new: dict[str, CaseRecord]
) -> Iterator[str]:
    renamed = {name for cases in (old, new) for name, case in cases.items() if name != case.id}
    if renamed:
        yield f"{len(renamed)} cases have been renamed since, and are listed by their current ids"
    for run, cases in ((before, old), (after, new)):
        if len(cases) < len(run.cases):
            merged = len(run.cases) - len(cases)
            yield f"{run.run_id}: {merged} cases are left out, because several old ids have become one"
    if before.machine != after.machine:
        yield f"the machines differ: {before.machine} and {after.machine}"
    if before.cases and after.cases and old.keys().isdisjoint(new):
        yield "the runs have no case in common, so no verdict can be compared"


def _differences(old: dict[str, CaseRecord], new: dict[str, CaseRecord]) -> Iterator[Difference]:
    for name in old | new:
        was, now = old.get(name), new.get(name)
        reason = _reason(now) if now else ""
        change = _change(was, now)
        if was and now and (was.rate or now.rate) and change is not VerdictChange.ERROR:
            change, reason = _by_rate(was, now, change, reason)
        if change:
            yield Difference(
                id=name,
                change=change,
                before=was.verdict if was else None,
                after=now.verdict if now else None,
                reason=reason,
            )


def _by_rate(
    was: CaseRecord, now: CaseRecord, change: VerdictChange | None, reason: str
) -> tuple[VerdictChange | None, str]:
    """Judge a case of which at least one run has repetitions: rates differ only if their bounds do not overlap.

    A run without repetitions is one repetition."""
    before, after = (case.rate or rate_of([case.verdict]) for case in (was, now))
    if not (before.runs and after.runs) or not (before.bad or after.bad):
        return change, reason
    rates = f"{as_text(before)}; now {as_text(after)}"
    if after.high < before.low:
        return VerdictChange.RARER if after.bad else VerdictChange.FIXED, rates
    if before.high < after.low:
        return VerdictChange.MORE_OFTEN if before.bad else change, rates
    if before.bad and after.bad:
        return change, f"{reason}; {rates}"
    needed = f"; {runs_to_fix(before.low)} runs without a failure decide it" if before.bad else ""
    return VerdictChange.UNDECIDED, rates + needed


def _change(was: CaseRecord | None, now: CaseRecord | None) -> VerdictChange | None:
    states = _state(was), _state(now)
    if "error" in states:
        return VerdictChange.ERROR
    if states[0] != states[1]:
        return _CHANGES[states]
    if was and now and states[0] in ("bad", "known") and _end(was) != _end(now):
        return VerdictChange.OTHER
    return None


def _state(case: CaseRecord | None) -> _State:
    return _STATES[case.verdict] if case else "absent"


def _end(case: CaseRecord) -> tuple[Verdict, str | None]:
    return case.verdict, case.known_issue


def _reason(case: CaseRecord) -> str:
    if case.reason or not case.known_issue:
        return case.reason
    return f"known issue: {case.known_issue}"


def _kernel(run: RunRecord) -> str:
    return f"{run.kernel.release}, {run.kernel.origin}, on {run.machine}: {tally(run.summary)}"

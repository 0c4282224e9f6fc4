# SPDX-License-Identifier: GPL-2.0-only
"""Two runs of the same cases, and what is different: on a kernel with and without a series, say."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import HarnessError
from harness.report.record import write_report
from harness.report.text import one_line, tally
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, RunRecord, Verdict

SCHEMA = "vfio-harness/compare/1"
REPORT = "compare.json"


class VerdictChange(StrEnum):
    """What became of a case. ``other`` is bad in both runs, but differently."""

    BROKEN = "broken"
    FIXED = "fixed"
    NEW_KNOWN = "new known issue"
    NEW = "new"
    GONE = "no longer shown"
    OTHER = "bad as before, in another way"
    ERROR = "could not be judged"


_State = Literal["good", "known", "bad", "absent", "error"]
_STATES: dict[Verdict, _State] = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "known",
    Verdict.SKIP: "absent",
    Verdict.ERROR: "error",
    **dict.fromkeys(KERNEL_AT_FAULT, "bad"),
}
_BECAME: dict[tuple[_State, _State], VerdictChange] = {
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
"""By what the case was and is; what is not here is no change, or one between two bad ends."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Difference(_Data):
    """One case that ended differently; None: it was not run. ``reason``: of the later verdict."""

    id: str
    change: VerdictChange
    before: Verdict | None
    after: Verdict | None
    reason: str


class Comparison(_Data):
    """``compare.json``. ``still``: how many cases have ended as before, by verdict. ``before``, ``after``: what ran."""

    schema_: str = Field(SCHEMA, alias="schema")
    before: str
    after: str
    differences: list[Difference]
    still: dict[str, int]

    @property
    def exit_code(self) -> int:
        """1 if a case is broken, else 3 if one could not be judged, else 0."""
        found = {difference.change for difference in self.differences}
        return 1 if VerdictChange.BROKEN in found else HarnessError.exit_code if VerdictChange.ERROR in found else 0

    def write(self, directory: Path) -> None:
        """Write ``compare.json``."""
        write_report(directory / REPORT, self.model_dump_json(by_alias=True, indent=2) + "\n")

    def __str__(self) -> str:
        """What differs, with reasons, and how much does not."""
        lines = [f"before  {self.before}", f"after   {self.after}"]
        for change in VerdictChange:
            found = [difference for difference in self.differences if difference.change is change]
            if found or change in (VerdictChange.BROKEN, VerdictChange.FIXED, VerdictChange.NEW_KNOWN):
                lines += ["", f"{change}: {len(found)}"]
            for difference in found:
                lines.append(f"  {difference.id}: {difference.before or 'not run'} -> {difference.after or 'not run'}")
                lines += [f"      {one_line(difference.reason)}"] * bool(difference.reason)
        return "\n".join([*lines, "", f"still: {tally(self.still)}"])


def compare(before: RunRecord, after: RunRecord) -> Comparison:
    """What has changed from one run to the other."""
    differences = list(_differences(before, after))
    changed = {difference.id for difference in differences}
    return Comparison(
        before=_kernel(before),
        after=_kernel(after),
        differences=differences,
        still=dict(Counter(str(case.verdict) for case in after.cases if case.id not in changed)),
    )


def _differences(before: RunRecord, after: RunRecord) -> Iterator[Difference]:
    old = {case.id: case for case in before.cases}
    new = {case.id: case for case in after.cases}
    for name in old | new:
        was, now = old.get(name), new.get(name)
        change = _change(_state(was), _state(now), same=was is not None and now is not None and _end(was) == _end(now))
        if change:
            yield Difference(
                id=name,
                change=change,
                before=was.verdict if was else None,
                after=now.verdict if now else None,
                reason=(now.reason or f"known issue: {now.known_issue}" * bool(now.known_issue)) if now else "",
            )


def _change(was: _State, now: _State, *, same: bool) -> VerdictChange | None:
    if "error" in (was, now):
        return VerdictChange.ERROR
    if was == now:
        return VerdictChange.OTHER if was in ("bad", "known") and not same else None
    return _BECAME[was, now]


def _state(case: CaseRecord | None) -> _State:
    return _STATES[case.verdict] if case else "absent"


def _end(case: CaseRecord) -> tuple[Verdict, str | None]:
    return case.verdict, case.known_issue


def _kernel(run: RunRecord) -> str:
    return f"{run.kernel.release}, {run.kernel.origin}, on {run.machine}: {tally(run.summary)}"

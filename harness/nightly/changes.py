# SPDX-License-Identifier: GPL-2.0-only
"""What has changed since the last night that judged the same case in the same cell.

A case that was deleted, or whose cell was, is ``missing``, never ``fixed``: nothing has judged it. So is one that is
now ERROR or SKIP. Each of these is reported in its first night only, so that a night without news has no change.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.nightly.outcomes import MISS, Key, Outcome, load_night, outcomes_of, why_unjudged
from harness.nightly.record import CaseChange, ChangeKind, Night
from harness.report.renamed import renamed_cases
from harness.verdict import KERNEL_AT_FAULT, Verdict

LOOK_BACK = 30
"""Nights in which the last verdict of a case is searched."""

_State = Literal["never", "good", "known", "skip", "bad", "error", "miss"]
_STATES: dict[str, _State] = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "known",
    Verdict.SKIP: "skip",
    Verdict.ERROR: "error",
    MISS: "miss",
    **dict.fromkeys(KERNEL_AT_FAULT, "bad"),
}
_UNJUDGED: frozenset[_State] = frozenset({"error", "miss"})
"""What says nothing about the case: the verdict before it still stands."""
_KINDS: dict[tuple[_State, _State], ChangeKind] = {
    ("never", "good"): "new",
    ("never", "known"): "new",
    ("never", "skip"): "new",
    ("never", "bad"): "new",
    ("never", "error"): "new",
    ("good", "bad"): "broken",
    ("known", "bad"): "broken",
    ("skip", "bad"): "broken",
    ("bad", "good"): "fixed",
    ("known", "good"): "fixed",
    ("good", "known"): "other",
    ("bad", "known"): "other",
    ("skip", "good"): "other",
    ("skip", "known"): "other",
    ("bad", "bad"): "other",
    ("known", "known"): "other",
    ("good", "skip"): "missing",
    ("known", "skip"): "missing",
    ("bad", "skip"): "missing",
    ("good", "error"): "missing",
    ("known", "error"): "missing",
    ("skip", "error"): "missing",
    ("bad", "error"): "missing",
    ("good", "miss"): "missing",
    ("known", "miss"): "missing",
    ("skip", "miss"): "missing",
    ("bad", "miss"): "missing",
}
"""The kind of change from one state to another. Two states that are not here are no change."""

_Outcomes = Mapping[Key, Outcome]


def changes_of(night: Night, directory: Path, earlier: Iterable[Path]) -> list[CaseChange]:
    """Return what differs from the last night that judged the same case in the same cell, in the order of the plan.

    Args:
        night: The night.
        directory: Its directory, which holds the records of its runs.
        earlier: The directories of the earlier nights, newest first: ``outcomes.earlier_nights``. Those of another plan
            are skipped, and so are those whose record cannot be read. The latest ``LOOK_BACK`` are searched.

    The first night of a plan has no change.
    """
    past = _Past(night.plan, earlier)
    last = past.nights(1)
    if not last:
        return []
    (_, shown), now = last[0], outcomes_of(night, directory)
    planned = _planned(night)
    found = []
    for key in dict.fromkeys([*planned, *now, *shown]):
        outcome = now.get(key) or Outcome(MISS, _why_missing(night, key, planned))
        if _state(outcome) in _UNJUDGED and outcome.verdict == shown.get(key, Outcome(MISS)).verdict:
            continue  # the last night has reported it
        was = past.verdict_of(key)
        if kind := _kind(was, outcome):
            good = past.last_good(key) if _state(outcome) == "bad" else ""
            found.append(_change(key, kind, was, outcome, good))
    return found


class _Past:
    """The earlier nights of a plan. Each is read when it is needed: mostly the last one answers."""

    def __init__(self, plan: str, directories: Iterable[Path]) -> None:
        self._read: list[tuple[str, _Outcomes]] = []
        self._unread = islice(_nights(plan, directories), LOOK_BACK)

    def nights(self, most: int = LOOK_BACK) -> list[tuple[str, _Outcomes]]:
        """Return the latest nights, at most ``most``, with their names."""
        return list(islice(self._all(), most))

    def verdict_of(self, key: Key) -> Outcome | None:
        """Return the last outcome of a case that says something about it."""
        found = (outcomes.get(key) for _, outcomes in self._all())
        return next((outcome for outcome in found if outcome and _state(outcome) not in _UNJUDGED), None)

    def last_good(self, key: Key) -> str:
        """Return the name of the last night in which the case passed; empty if there is none."""
        nights = ((name, outcomes.get(key)) for name, outcomes in self._all())
        return next((name for name, outcome in nights if _state(outcome) == "good"), "")

    def _all(self) -> Iterator[tuple[str, _Outcomes]]:
        yield from self._read
        for night in self._unread:
            self._read.append(night)
            yield night


def _nights(plan: str, directories: Iterable[Path]) -> Iterator[tuple[str, _Outcomes]]:
    for directory in directories:
        try:
            night = load_night(directory)
        except UsageError:
            continue
        if night.plan == plan:
            yield night.night, outcomes_of(night, directory)


def _planned(night: Night) -> dict[Key, None]:
    name = renamed_cases().current_id
    return {(cell.id, name(case)): None for cell in night.cells for case in cell.cases}


def _state(outcome: Outcome | None) -> _State:
    return _STATES[outcome.verdict] if outcome else "never"


def _kind(was: Outcome | None, now: Outcome) -> ChangeKind | None:
    states = _state(was), _state(now)
    if was and states[0] == states[1] and _end(was) == _end(now):
        return None
    return _KINDS.get(states)


def _end(outcome: Outcome) -> tuple[str, str | None, str]:
    return outcome.verdict, outcome.known_issue, outcome.fingerprint


def _change(key: Key, kind: ChangeKind, was: Outcome | None, now: Outcome, good: str) -> CaseChange:
    cell, case = key
    return CaseChange(
        cell=cell,
        case=case,
        kind=kind,
        before=was.verdict if was else "",
        after=now.verdict,
        reason=now.reason,
        rate=now.rate,
        fingerprint=now.fingerprint,
        last_good=good,
    )


def _why_missing(night: Night, key: Key, planned: Mapping[Key, None]) -> str:
    cell, _ = key
    runs = next((result.runs for result in night.results if result.cell == cell), [])
    if cell not in {each.id for each in night.cells}:
        return "the plan no longer has the cell"
    if key not in planned:
        return "the cell no longer has the case"
    return why_unjudged(runs)

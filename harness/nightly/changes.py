# SPDX-License-Identifier: GPL-2.0-only
"""What has changed since the last night that judged the same case in the same cell.

A case that was deleted, or whose cell was, is ``missing``, never ``fixed``: nothing has judged it. So is one that is
now ERROR or SKIP. Each of these is reported in its first night only, so that a night without news has no change.
"""

from collections.abc import Mapping

from harness.nightly.cells import NightVerdicts
from harness.nightly.outcomes import Key, Outcome, why_unjudged
from harness.nightly.past import UNJUDGED, PastNights, State, state_of
from harness.nightly.record import CaseChange, ChangeKind, Night
from harness.report.parts import MISS
from harness.report.renamed import renamed_cases

_KINDS: dict[tuple[State, State], ChangeKind] = {
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


def changes_of(verdicts: NightVerdicts, past: PastNights) -> list[CaseChange]:
    """Return what differs from the last night that judged the same case in the same cell, in the order of the plan.

    ``past``: the earlier nights of the plan, of which the latest ``past.LOOK_BACK`` are searched. The first night of a
    plan has no change.
    """
    last = past.nights(1)
    if not last:
        return []
    (_, shown), now, night = last[0], verdicts.outcomes, verdicts.night
    planned = _planned(night)
    found = []
    for key in dict.fromkeys([*planned, *now, *shown]):
        outcome = now.get(key) or Outcome(MISS, _why_missing(night, key, planned))
        if state_of(outcome) in UNJUDGED and outcome.verdict == shown.get(key, Outcome(MISS)).verdict:
            continue  # the last night has reported it
        was = past.verdict_of(key)
        if kind := _kind(was, outcome):
            good = past.last_good(key) if state_of(outcome) == "bad" else ""
            found.append(_change(key, kind, was, outcome, good))
    return found


def _planned(night: Night) -> dict[Key, None]:
    name = renamed_cases().current_id
    return {(cell.id, name(case)): None for cell in night.cells for case in cell.cases}


def _kind(was: Outcome | None, now: Outcome) -> ChangeKind | None:
    states = state_of(was), state_of(now)
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

# SPDX-License-Identifier: GPL-2.0-only
"""What the earlier nights of a plan say about a case. Both the changes of a night and its repetitions ask."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.nightly.outcomes import Key, Outcome, load_night, outcomes_of
from harness.report.parts import MISS
from harness.report.renamed import renamed_cases
from harness.verdict import KERNEL_AT_FAULT, Verdict

LOOK_BACK = 30
"""Nights in which the last verdict of a case is searched."""

State = Literal["never", "good", "known", "skip", "bad", "error", "miss"]
_STATES: dict[str, State] = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "known",
    Verdict.SKIP: "skip",
    Verdict.ERROR: "error",
    MISS: "miss",
    **dict.fromkeys(KERNEL_AT_FAULT, "bad"),
}
UNJUDGED: frozenset[State] = frozenset({"error", "miss"})
"""What says nothing about the case: the verdict before it still stands."""

_Outcomes = Mapping[Key, Outcome]


def state_of(outcome: Outcome | None) -> State:
    """Return what an outcome says of the kernel. None: no night has judged the case."""
    return _STATES[outcome.verdict] if outcome else "never"


class PastNights:
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
        return next((outcome for outcome in found if outcome and state_of(outcome) not in UNJUDGED), None)

    def is_good(self, cell: str, case: str) -> bool:
        """Return whether the last night that judged the case found it good. ``case``: its id in this night."""
        return state_of(self.verdict_of((cell, renamed_cases().current_id(case)))) == "good"

    def last_good(self, key: Key) -> str:
        """Return the name of the last night in which the case passed; empty if there is none."""
        nights = ((name, outcomes.get(key)) for name, outcomes in self._all())
        return next((name for name, outcome in nights if state_of(outcome) == "good"), "")

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

# SPDX-License-Identifier: GPL-2.0-only
"""What the earlier nights of a plan say about a case. Both the changes of a night and its repetitions ask."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.nightly.cells import NightVerdicts
from harness.nightly.outcomes import Key, Outcome, load_night
from harness.report.parts import MISS
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

PastNight = tuple[str, Mapping[Key, Outcome]]
"""The name of an earlier night, and the outcome of each case that it has judged."""


def state_of(outcome: Outcome | None) -> State:
    """Return what an outcome says of the kernel. None: no night has judged the case."""
    return _STATES[outcome.verdict] if outcome else "never"


class PastNights:
    """The earlier nights of a plan. Each is read when it is needed: mostly the last one answers."""

    def __init__(self, nights: Iterable[PastNight]) -> None:
        """``nights``: those of the same plan, newest first: ``History.nights_before`` or ``recorded_nights``."""
        self._read: list[PastNight] = []
        self._unread = islice(iter(nights), LOOK_BACK)

    def nights(self, most: int = LOOK_BACK) -> list[PastNight]:
        """Return the latest nights, at most ``most``, with their names."""
        return list(islice(self._all(), most))

    def verdict_of(self, key: Key) -> Outcome | None:
        """Return the last outcome of a case that says something about it."""
        found = (outcomes.get(key) for _, outcomes in self._all())
        return next((outcome for outcome in found if outcome and state_of(outcome) not in UNJUDGED), None)

    def good(self, keys: Iterable[Key]) -> Collection[Key]:
        """Return those of the cases that the last night which judged them found good."""
        return {key for key in keys if state_of(self.verdict_of(key)) == "good"}

    def last_good(self, key: Key) -> str:
        """Return the name of the last night in which the case passed; empty if there is none."""
        nights = ((name, outcomes.get(key)) for name, outcomes in self._all())
        return next((name for name, outcome in nights if state_of(outcome) == "good"), "")

    def _all(self) -> Iterator[PastNight]:
        yield from self._read
        for night in self._unread:
            self._read.append(night)
            yield night


def recorded_nights(plan: str, directories: Iterable[Path]) -> Iterator[PastNight]:
    """Read the nights of a plan from their records, for want of a history. Those that cannot be read are left out."""
    for directory in directories:
        try:
            if load_night(directory).plan == plan:
                yield directory.name, NightVerdicts.read(directory).outcomes
        except UsageError:
            continue

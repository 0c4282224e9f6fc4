# SPDX-License-Identifier: GPL-2.0-only
"""How long to wait for a command that must not run: a multiple of the time in which this machine has answered."""

from collections import deque

MARGIN = 10
"""The wait is this many times the longest of the latest answers."""
LATEST = 16
"""Answers that count. The speed of a host varies within a run."""
FEWEST = 3
"""Answers without which nothing is known."""
SHORTEST_S = 0.03
UNKNOWN_S = 0.15
"""The wait before that, for a slowdown of 1."""


class AnswerTimes:
    """The times in which the controllers of one machine answered commands that were rung."""

    def __init__(self, slowdown: float) -> None:
        self._unknown_s = UNKNOWN_S * slowdown
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        """Add the time from the question whether a command has completed to the answer that it has."""
        self._latest.append(seconds)

    @property
    def silence_s(self) -> float:
        """Seconds without a completion after which a command does not run."""
        if len(self._latest) < FEWEST:
            return self._unknown_s
        return max(SHORTEST_S, MARGIN * max(self._latest))

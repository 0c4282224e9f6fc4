# SPDX-License-Identifier: GPL-2.0-only
"""Calls that several threads make at the same time, chosen by dice: how races in the kernel are provoked."""

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from .resource import Resource

BURST = 4
"""Calls that a lane makes at most before it waits for the others."""
LATE_S = (0.0, 0.0001, 0.0005, 0.003)
"""By how much a lane may begin later than it could: what the calls of another lane take, short ones and long ones."""
HELD = 3
"""What a lane has open at most before it closes something."""


class Move:
    """A call of ``do`` on an object of the agent's, ``weight`` times as likely as others."""

    def __init__(self, name: str, on: Any, do: str, args: dict[str, Any], weight: int) -> None:
        self.name = name
        self.call: Callable[[], Any] = lambda: getattr(on, do)(**args)
        self.weight = weight


class _Lane(threading.Thread):
    """One thread. ``outcomes`` counts how its calls ended, "ok" or an errno; ``held``: what they have left open."""

    def __init__(self, moves: list[Move], dice: Random, barrier: threading.Barrier, steps: int) -> None:
        super().__init__(daemon=True)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.held: list[Resource] = []
        self.error: BaseException | None = None
        self._moves = moves
        self._dice = dice
        self._barrier = barrier
        self._steps = steps

    def run(self) -> None:
        try:
            for _ in range(self._steps):
                self._barrier.wait()
                time.sleep(self._dice.choice(LATE_S) * self._dice.random())
                for _ in range(self._dice.randint(1, BURST)):
                    self._step()
        except threading.BrokenBarrierError:
            pass  # another lane has failed, and says so
        except BaseException as error:
            self.error = error
            self._barrier.abort()

    def _step(self) -> None:
        if self.held and self._dice.random() < len(self.held) / HELD:
            self._make("close", self.held.pop(self._dice.randrange(len(self.held))).close)
        else:
            (move,) = self._dice.choices(self._moves, [move.weight for move in self._moves])
            self._make(move.name, move.call)

    def _make(self, name: str, call: Callable[[], Any]) -> None:
        try:
            result = call()
        except OSError as refusal:
            self.outcomes[name, errno.errorcode.get(refusal.errno or 0, str(refusal.errno))] += 1
            return
        self.outcomes[name, "ok"] += 1
        if isinstance(result, Resource):
            self.held.append(result)


def run(lanes: list[list[dict[str, Any]]], seed: str, steps: int) -> list[dict[str, Any]]:
    """Let each lane, a list of the members of ``Move``, take ``steps`` steps on a thread of its own. A step is a burst
    of calls, each one of the lane's moves or the close of what one opened; all lanes begin it together, give or take.

    For each lane: ``outcomes``, rows of name, "ok" or errno, count; and ``held``.
    """
    barrier = threading.Barrier(len(lanes))
    threads = [
        _Lane([Move(**move) for move in moves], Random(f"{seed}.{number}"), barrier, steps)
        for number, moves in enumerate(lanes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in (thread.error for thread in threads if thread.error):
        raise error
    return [
        {"outcomes": [[*key, count] for key, count in thread.outcomes.items()], "held": thread.held}
        for thread in threads
    ]

# SPDX-License-Identifier: GPL-2.0-only
"""Several threads make calls at the same time, to provoke races in the kernel. A seed decides which calls."""

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from .resource import Resource

BURST = 4
"""A thread makes up to this many calls before it waits for the others."""
START_DELAYS_S = (0.0, 0.0001, 0.0005, 0.003)
"""Longest delays of a thread's burst, in seconds: the durations of short and of long calls of another thread."""
MAX_HELD = 3
"""A thread that has this many resources open closes one."""


class Operation:
    """A call of ``do`` on an object of the agent. ``weight``: how often, relative to the thread's other operations."""

    def __init__(self, name: str, on: Any, do: str, args: dict[str, Any], weight: int) -> None:
        self.name = name
        self.call: Callable[[], Any] = lambda: getattr(on, do)(**args)
        self.weight = weight


class _RaceThread(threading.Thread):
    """One thread of a race.

    ``outcomes`` counts how its calls ended, "ok" or an errno. ``held``: the resources that they left open, each with
    the number of the operation that opened it.
    """

    def __init__(self, operations: list[Operation], rng: Random, barrier: threading.Barrier, steps: int) -> None:
        super().__init__(daemon=True)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.held: list[tuple[int, Resource]] = []
        self.error: BaseException | None = None
        self._operations = operations
        self._rng = rng
        self._barrier = barrier
        self._steps = steps

    def run(self) -> None:
        try:
            for _ in range(self._steps):
                self._barrier.wait()
                time.sleep(self._rng.choice(START_DELAYS_S) * self._rng.random())
                for _ in range(self._rng.randint(1, BURST)):
                    self._call_one()
        except threading.BrokenBarrierError:
            pass  # another thread failed and keeps the error
        except BaseException as error:
            self.error = error
            self._barrier.abort()

    def _call_one(self) -> None:
        if self.held and self._rng.random() < len(self.held) / MAX_HELD:
            _, resource = self.held.pop(self._rng.randrange(len(self.held)))
            self._count("close", resource.close)
            return
        numbers = range(len(self._operations))
        (number,) = self._rng.choices(numbers, [operation.weight for operation in self._operations])
        result = self._count(self._operations[number].name, self._operations[number].call)
        if isinstance(result, Resource):
            self.held.append((number, result))

    def _count(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call and count its outcome. Returns its result, or None if the kernel refused it."""
        try:
            result = call()
        except OSError as refusal:
            self.outcomes[name, errno.errorcode.get(refusal.errno or 0, str(refusal.errno))] += 1
            return None
        self.outcomes[name, "ok"] += 1
        return result


def run(threads: list[list[dict[str, Any]]], seed: str, steps: int) -> list[dict[str, Any]]:
    """Run each list of operations on a thread of its own for ``steps`` steps.

    In a step each thread makes a burst of calls. A call is one of its operations, or closes a resource that one of
    them opened. All threads begin a step within START_DELAYS_S. An operation is given as the arguments of
    ``Operation``.

    Returns for each thread ``outcomes``, rows of name, "ok" or errno, and count; and ``held``, rows of the number of
    the operation and the resource that it opened.
    """
    barrier = threading.Barrier(len(threads))
    running = [
        _RaceThread([Operation(**each) for each in operations], Random(f"{seed}.{number}"), barrier, steps)
        for number, operations in enumerate(threads)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for error in (thread.error for thread in running if thread.error):
        raise error
    return [
        {"outcomes": [[*key, count] for key, count in thread.outcomes.items()], "held": [*map(list, thread.held)]}
        for thread in running
    ]

# SPDX-License-Identifier: GPL-2.0-only
"""The references that a case leaves in the kernel: module users, dma-bufs, IOVAs... (harness/guest/references.py)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from harness.session.client import Agent

SETTLE_SECONDS = 1.0
"""Time for the kernel's workqueues to release what a close left to them, for a slowdown of 1."""


class References:
    """Compares the kernel's counters with their values before the case.

    Importers stay ready from case to case, and hold references. What an importer holds is measured when it is made, and
    is expected until it is closed. So a reading needs no knowledge of which importers are ready.

    ``test_importer``: whether the kernel has the test importer, which counts some of them.
    """

    def __init__(self, agent: Agent, *, test_importer: bool) -> None:
        self._agent = agent
        self._test_importer = test_importer
        self._expected: Counter[str] | None = None

    def start(self) -> None:
        """Take the counters of a machine in which nothing is open. Later calls do nothing."""
        if self._expected is None:
            self._expected = self.read()

    @contextmanager
    def kept(self) -> Iterator[Counter[str]]:
        """Measure the references that the block takes, and expect them from now on.

        The block gets an empty count, which is filled when the block ends without an error.
        """
        held: Counter[str] = Counter()
        before = self.read() if self._expected is not None else held
        yield held
        if self._expected is not None:
            held.update(self.read())
            held.subtract(before)
            self._expected.update(held)

    def release(self, held: Mapping[str, int]) -> None:
        """Expect what ``kept`` measured no longer."""
        if self._expected is not None:
            self._expected.subtract(held)

    def left(self) -> list[str]:
        """Wait until the counters are as expected. Returns a sentence for each that is not after the deadline."""
        return self.left_since(self._expected or Counter())

    def left_since(self, expected: Counter[str]) -> list[str]:
        """Wait until the counters are as in an earlier ``read``. Returns what ``left`` does."""
        wanted = {name: count for name, count in expected.items() if count}
        seconds = SETTLE_SECONDS * self._agent.slowdown
        now = self._agent.call(
            "references", "settle", expected=wanted, with_importer=self._test_importer, seconds=seconds
        )
        return differences(expected, Counter(now))

    def read(self) -> Counter[str]:
        """Return the counters."""
        return Counter(cast(dict[str, int], self._agent.call("references", "read", with_importer=self._test_importer)))


def differences(before: Counter[str], now: Counter[str]) -> list[str]:
    """Name each counter that has changed, with both values."""
    return [
        f"{name} were {before[name]}, now {now[name]}" for name in sorted({*before, *now}) if before[name] != now[name]
    ]

# SPDX-License-Identifier: GPL-2.0-only
"""Memory that the guest's kernel leaked, as kmemleak reports it (CONFIG_DEBUG_KMEMLEAK)."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from harness.session.session import Session
from harness.witness.leaks import LeakedObject, parse_report

MAX_LISTED = 4
"""Different leaks that a reason lists."""
SCAN_SECONDS = 30.0
"""Time for two scans of 1 GiB, plus the age below which kmemleak reports nothing."""


@contextmanager
def leaks(session: Session) -> Iterator[list[LeakedObject]]:
    """Collect the leaks of memory that the block allocated. The list is filled when the block ends without an error.

    Takes about 15 s under emulation.
    """
    found: list[LeakedObject] = []
    began = forget_leaks(session)
    yield found
    found += leaks_since(session, began)


def forget_leaks(session: Session) -> int:
    """Clear the present reports. Returns the time in jiffies, for ``leaks_since``."""
    return cast(int, session.agent.call("leaks", "forget", timeout=SCAN_SECONDS))


def leaks_since(session: Session, began: int) -> list[LeakedObject]:
    """Return the leaks of memory that was allocated after ``began``."""
    lost = parse_report(session.agent.call("leaks", "scan", timeout=SCAN_SECONDS))
    return [leak for leak in lost if leak.born is None or leak.born >= began]


def summarize(lost: Iterable[LeakedObject]) -> str:
    """Name the most frequent leaks with their counts, for the reason of a verdict."""
    return "; ".join(f"{count} x {leak}" for leak, count in Counter(map(str, lost)).most_common(MAX_LISTED))

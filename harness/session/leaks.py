# SPDX-License-Identifier: GPL-2.0-only
"""Memory that the guest's kernel has lost, as kmemleak finds it (CONFIG_DEBUG_KMEMLEAK)."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.session.session import Session
from harness.witness.leaks import LeakedObject, parse_kmemleak

MAX_TOLD = 4
SCAN_SECONDS = 30.0
"""Two scans of a GiB, and the age below which nothing is reported."""


@contextmanager
def leaks(session: Session) -> Iterator[list[LeakedObject]]:
    """What is lost in the block is in the list, once the block has ended well. About 15 s under emulation."""
    found: list[LeakedObject] = []
    began: int = session.agent.call("leaks", "forget", timeout=SCAN_SECONDS)
    yield found
    lost = parse_kmemleak(session.agent.call("leaks", "scan", timeout=SCAN_SECONDS))
    found += (leak for leak in lost if leak.born is None or leak.born >= began)


def summarize(lost: Iterable[LeakedObject]) -> str:
    """What was lost, and how often, for the reason of a verdict."""
    return "; ".join(f"{count} x {leak}" for leak, count in Counter(map(str, lost)).most_common(MAX_TOLD))

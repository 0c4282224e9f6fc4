# SPDX-License-Identifier: GPL-2.0-only
"""kmemleak (mm/kmemleak.c): memory of the kernel's that nothing in the kernel points to."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
TIMERS = Path("/proc/timer_list")
PRINTK = Path("/proc/sys/kernel/printk")
NOTICE_AND_WORSE = "6"
MIN_AGE_S = 5.1
"""MSECS_MIN_AGE: what is younger is not reported."""


def forget() -> int:
    """What is seen to be leaked already is not reported any more. The time, in jiffies: a stale pointer may hide some
    of it until later, but not when it was allocated."""
    scan()
    KMEMLEAK.write_text("clear")
    found = re.search(r"^jiffies: (\d+)", TIMERS.read_text(), re.M)
    if not found:
        raise ValueError(f"{TIMERS} tells no jiffies")
    return int(found[1])


def scan() -> str:
    """The report on all that has no pointer to it, now and not a moment ago: of two scans, the second tells."""
    time.sleep(MIN_AGE_S)
    with _quietly():
        for _ in range(2):
            KMEMLEAK.write_text("scan")
    return KMEMLEAK.read_text()


@contextmanager
def _quietly() -> Iterator[None]:
    """A scan says on the console how much it found, which is not for whoever reads that, but for our caller."""
    before = PRINTK.read_text()
    PRINTK.write_text(NOTICE_AND_WORSE)
    try:
        yield
    finally:
        PRINTK.write_text(before)

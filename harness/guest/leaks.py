# SPDX-License-Identifier: GPL-2.0-only
"""kmemleak (mm/kmemleak.c): kernel memory that no pointer refers to.

The summary that each scan prints on the console names no object, so the host does not take it for a splat.
"""

import re
import time

from . import files

KMEMLEAK = "/sys/kernel/debug/kmemleak"
TIMERS = "/proc/timer_list"
MIN_AGE_S = 5.1
"""MSECS_MIN_AGE: kmemleak does not report younger objects."""


def forget() -> int:
    """Clear kmemleak's current reports. Returns the time in jiffies.

    A stale pointer may hide an old leak until a later scan, so the caller compares the time of allocation as well.
    """
    scan()
    files.write(KMEMLEAK, "clear")
    found = re.search(r"^jiffies: (\d+)", files.read_text(TIMERS), re.M)
    if not found:
        raise ValueError(f"{TIMERS} has no jiffies")
    return int(found[1])


def scan() -> str:
    """Scan twice and return the report. The second scan confirms that objects without a pointer still have none."""
    time.sleep(MIN_AGE_S)
    for _ in range(2):
        files.write(KMEMLEAK, "scan")
    return files.read_text(KMEMLEAK)

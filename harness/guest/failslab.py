# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail: each of those that a call makes, in turn. Needs CONFIG_FAILSLAB and
CONFIG_FAULT_INJECTION_DEBUG_FS."""

import os
from collections.abc import Callable
from pathlib import Path

from .poll import Stuck

FAILSLAB = Path("/sys/kernel/debug/failslab")
FAIL_NTH = "/proc/thread-self/fail-nth"  # fs/proc/base.c: the nth allocation from now, of this thread, fails

MOST_ALLOCATIONS = 1000


def each_failing(call: Callable[[], int], times: int = 1) -> list[int]:
    """What ``call`` returns with its first, second... allocation failing; the last is that where none is left to.

    With each it is called ``times`` times, of which the last counts.
    """
    (FAILSLAB / "ignore-gfp-wait").write_text("N")
    (FAILSLAB / "verbose").write_text("0")
    outcomes = []
    nth = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number in range(1, MOST_ALLOCATIONS):
            for _ in range(times):
                os.write(nth, b"%d" % number)
                outcome = call()
                spared = os.pread(nth, 16, 0).strip() != b"0"
                os.write(nth, b"0")
            outcomes.append(outcome)
            if spared:
                return outcomes
    finally:
        os.close(nth)
    raise Stuck(f"a call of over {MOST_ALLOCATIONS} allocations")

# SPDX-License-Identifier: GPL-2.0-only
"""Fail each allocation of a call in turn. Needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS."""

import os
from collections.abc import Callable
from pathlib import Path

from .poll import Stuck

FAILSLAB = Path("/sys/kernel/debug/failslab")
FAIL_NTH = "/proc/thread-self/fail-nth"
"""Write n, and the nth allocation of this thread from now on fails (fs/proc/base.c)."""
MOST_ALLOCATIONS = 1000


def each_failing(call: Callable[[], int], times: int = 1) -> list[int]:
    """Call ``call`` with its first allocation failing, then with its second, and so on, ``times`` times each.

    Returns each last result; in the final one no allocation failed. Raises Stuck after MOST_ALLOCATIONS.
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
                none_failed = os.pread(nth, 16, 0).strip() != b"0"
                os.write(nth, b"0")
            outcomes.append(outcome)
            if none_failed:
                return outcomes
    finally:
        os.close(nth)
    raise Stuck(f"the call makes over {MOST_ALLOCATIONS} allocations")

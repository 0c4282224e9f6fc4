# SPDX-License-Identifier: GPL-2.0-only
"""How much of the guest kernel's memory calls keep."""

import sys
from collections.abc import Callable

from harness.session import Session

ROUNDS = 3
"""The rest of the kernel takes memory, too, but not in each of three rounds. A leak takes it in each."""


def least_growth(session: Session, act: Callable[[], object], limit: int) -> int:
    """Return the bytes by which the slab grows over ``act``: the least of ``ROUNDS``, or the first below ``limit``."""
    least = sys.maxsize
    for _ in range(ROUNDS):
        before = session.slab()
        act()
        least = min(least, session.slab() - before)
        if least < limit:
            break
    return least

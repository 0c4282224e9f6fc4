# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for what sends no event: a device's register or its writes to memory."""

import time
from collections.abc import Callable

PAUSE = 0.0002  # seconds between looks


class Stuck(Exception):
    """A device of the harness's own did not do its work in time."""


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` came true within ``seconds``; it is looked at at least once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for ``condition``; raises Stuck, saying ``what``, when it does not come true within ``seconds``."""
    if not poll(condition, seconds):
        raise Stuck(f"{what}: not within {seconds:g} s")

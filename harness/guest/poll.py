# SPDX-License-Identifier: GPL-2.0-only
"""Poll for changes that send no event: in a device's register, or in memory that it writes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, GROWTH, LAST_PAUSE = 0.0002, 1.1, 0.005
"""Seconds between polls: they grow, so that the thread that is waited for gets Python's lock."""


class Stuck(Exception):
    """A device or process did not finish in time. The kernel under test is not to blame."""


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether ``condition`` becomes true within ``seconds``. It is evaluated at least once."""
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * GROWTH, LAST_PAUSE)
    return True


def wait_value(get: Callable[[], T | None], seconds: float, what: str) -> T:
    """Poll ``get`` until it returns a value other than None. Raises Stuck with ``what`` after ``seconds``."""
    value: T | None = None

    def got() -> bool:
        nonlocal value
        value = get()
        return value is not None

    wait_for(got, seconds, what)
    assert value is not None
    return value


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for ``condition``. Raises Stuck with ``what`` after ``seconds``."""
    if not poll(condition, seconds):
        raise Stuck(f"{what}: not within {seconds:g} s")

# SPDX-License-Identifier: GPL-2.0-only
"""Poll for changes that send no event: in a device's register, or in memory that it writes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.0002  # seconds between polls


class Stuck(Exception):
    """A device or process did not finish in time. The kernel under test is not to blame."""


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether ``condition`` becomes true within ``seconds``. It is evaluated at least once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def wait_value(get: Callable[[], T | None], seconds: float, what: str) -> T:
    """Poll ``get`` until it returns a value other than None. Raises Stuck with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while (value := get()) is None:
        if time.monotonic() > deadline:
            raise Stuck(f"{what}: not within {seconds:g} s")
        time.sleep(PAUSE)
    return value


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for ``condition``. Raises Stuck with ``what`` after ``seconds``."""
    if not poll(condition, seconds):
        raise Stuck(f"{what}: not within {seconds:g} s")

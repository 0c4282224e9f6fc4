# SPDX-License-Identifier: GPL-2.0-only
"""Read QEMU's stderr. Some warnings mean that a case proves nothing."""

import re
from dataclasses import dataclass

MAX_LINE = 512
MAX_LINES = 64


@dataclass(frozen=True)
class Warned:
    """One line of QEMU's stderr."""

    text: str
    invalidates: str | None = None
    """Why the case cannot be judged (verdict ERROR); None for a mere remark."""


# QEMU 7.2 to 11.1. QEMU prints each kind once per process, so the machine must not be used again after one.
_INVALIDATING = (
    (
        re.compile(r"Blocked re-entrant IO"),
        "QEMU dropped a DMA into a device that was itself handling an access, so the write could not arrive",
    ),
    (re.compile(r"Assertion [`'].{1,300} failed|: assertion failed"), "QEMU's own assertion failed"),
)


def parse_stderr(text: str) -> list[Warned]:
    """Parse the last ``MAX_LINES`` lines of ``text``."""
    return [_judge(line[:MAX_LINE]) for line in text.splitlines()[-MAX_LINES:] if line.strip()]


def _judge(line: str) -> Warned:
    return Warned(line, next((why for pattern, why in _INVALIDATING if pattern.search(line)), None))


def added(before: str, after: str) -> str:
    """Return what ``after`` has beyond ``before``. Both are tails of one growing file."""
    if after.startswith(before):
        return after[len(before) :]
    # The tail has moved on, so it begins somewhere inside ``before``.
    for length in range(min(len(before), len(after)), 0, -1):
        if before.endswith(after[:length]):
            return after[length:]
    return after

# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU says on stderr: some of it means that a case proves nothing."""

import re
from dataclasses import dataclass

MAX_LINE = 512
MAX_LINES = 64


@dataclass(frozen=True)
class Warned:
    """One line. ``invalidates`` says why the case can no longer be judged (verdict ERROR); None for a mere remark."""

    text: str
    invalidates: str | None = None


# QEMU 7.2 to 10.0. Both kinds are printed once per QEMU process only: after them the machine must not be used again.
_INVALIDATING = (
    (
        re.compile(r"Blocked re-entrant IO"),
        "QEMU dropped DMA into a device that was itself handling an access: the write had no chance to arrive",
    ),
    (re.compile(r"Assertion [`'].{1,300} failed|: assertion failed"), "QEMU's own assertion failed"),
)


def parse_stderr(text: str) -> list[Warned]:
    """The last ``MAX_LINES`` lines of ``text``, judged."""
    return [_judge(line[:MAX_LINE]) for line in text.splitlines()[-MAX_LINES:] if line.strip()]


def _judge(line: str) -> Warned:
    return Warned(line, next((why for pattern, why in _INVALIDATING if pattern.search(line)), None))


def added(before: str, after: str) -> str:
    """What ``after`` has that ``before`` had not, both being the tail of one growing file."""
    if after.startswith(before):
        return after[len(before) :]
    # The tail has moved on: its beginning is somewhere in ``before``.
    for length in range(min(len(before), len(after)), 0, -1):
        if before.endswith(after[:length]):
            return after[length:]
    return after

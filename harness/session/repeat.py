# SPDX-License-Identifier: GPL-2.0-only
"""One call many times, to find what each one leaks."""

from harness.errors import errno_name
from harness.session.races import Operation
from harness.session.session import Session

REPEAT_SECONDS = 60.0


def repeat(session: Session, operation: Operation, times: int) -> list[str]:
    """Make a call ``times`` times. Returns the names of its different errnos; "" for success."""
    outcomes = session.agent.call(
        "repeat",
        "call",
        on=operation.on,
        do=operation.do,
        args=operation.args,
        times=times,
        timeout=REPEAT_SECONDS,
    )
    return [errno_name(outcome) if outcome else "" for outcome in outcomes]

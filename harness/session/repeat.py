# SPDX-License-Identifier: GPL-2.0-only
"""One call many times, to find what each one leaks."""

from collections.abc import Iterable

from harness.errors import errno_name
from harness.session.device import DmaBuf
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
    return _names(outcomes)


def attach_repeatedly(
    session: Session, buffer: DmaBuf, *, device_id: str, times: int, static: bool = False, peer2peer: bool = True
) -> list[str]:
    """Attach to a buffer and detach, like ``Session.attach``, many times.

    Returns the names of its different errnos; "" for success.
    """
    outcomes = session.agent.call(
        "importer",
        "attach_repeatedly",
        bdf=session.bdf(device_id),
        dmabuf=buffer,
        times=times,
        static=static,
        peer2peer=peer2peer,
    )
    return _names(outcomes)


def _names(outcomes: Iterable[int]) -> list[str]:
    return [errno_name(outcome) if outcome else "" for outcome in outcomes]

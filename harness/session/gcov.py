# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's gcov counters, by way of the guest. Needs a kernel of FLAVOUR=coverage."""

from typing import cast

from harness.session.session import Session


def reset_counters(session: Session) -> None:
    """Set every counter to 0."""
    session.agent.call("gcov", "reset")


def read_counters(session: Session) -> dict[str, bytes]:
    """Return the counters of each instrumented object: its .gcda, by its path in the guest's debugfs."""
    return cast(dict[str, bytes], session.agent.call("gcov", "read"))

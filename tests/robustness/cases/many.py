# SPDX-License-Identifier: GPL-2.0-only
"""Short cases for several machines in parallel. One loses its machine, and one kills its worker."""

import os
import signal

import pytest

from harness.session import Nvme, Session

CASES, PANICS, DIES = 12, 3, 6


@pytest.mark.parametrize("number", range(CASES))
def test_many(session: Session, nvme: Nvme, number: int) -> None:
    """Case PANICS panics the guest, case DIES kills its own process, the others pass."""
    if number == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == PANICS:
        session.machine.ssh().exec_command("echo c > /proc/sysrq-trigger")
        while True:
            session.agent.call("dmabuf", "bufinfo")

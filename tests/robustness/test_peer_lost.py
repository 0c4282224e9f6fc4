# SPDX-License-Identifier: GPL-2.0-only
"""A machine with a second VM: the peer's end is the harness's fault, at once, unless a case has ended it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from harness.errors import GuestLost, HarnessError
from harness.progress import silent
from harness.run.judge import judge
from harness.run.options import Options
from harness.run.setup import Setup
from harness.session import Session
from harness.verdict import Verdict

DEADLINE = 20.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.prepare(Options(machine="roce-pair"), silent)


@pytest.fixture
def session(setup: Setup, tmp_path: Path) -> Iterator[Session]:
    """Return a session on two VMs. Check that neither leaves a process behind."""
    with setup.machine_in(tmp_path) as machine:
        assert machine.peer
        pids = machine.pid, machine.peer.pid
        with setup.session_on(machine) as session:
            yield session
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


ENDS: dict[str, tuple[Callable[[Session], object], str]] = {
    "killed": (lambda s: os.kill(s.peer.machine.pid, signal.SIGKILL), "QEMU is gone: pid .*killed by SIGKILL"),
    "panicked": (lambda s: s.peer.machine.ssh().exec_command("echo c > /proc/sysrq-trigger"), "Kernel panic"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_the_peer_is_an_error_of_the_harness(session: Session, how: str) -> None:
    end, reason = ENDS[how]
    end(session)
    began = time.monotonic()
    with pytest.raises(HarnessError, match=f"the peer VM is lost: {reason}") as caught:
        session.machine.wait_for(Future(), DEADLINE, "a call that never returns")
    assert time.monotonic() - began < DEADLINE / 2
    assert not isinstance(caught.value, GuestLost)
    assert judge([caught.value], []).verdict is Verdict.ERROR
    with pytest.raises(HarnessError, match=r"the peer VM|the guest agent ended"):
        session.peer.connect(session.importer("rxe"))


def test_a_peer_that_a_case_kills_is_no_loss(session: Session) -> None:
    session.peer.connect(session.importer("rxe"))
    session.peer.kill()
    assert session.reset() == []
    assert session.bufinfo() == []
    assert session.machine.lost is None
    assert session.spent

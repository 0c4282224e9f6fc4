# SPDX-License-Identifier: GPL-2.0-only
"""Damage in the middle of a case, each followed by a case that must find a working machine.

test_lost_in_a_case.py runs this file and checks the verdict of each.
"""

import os
import signal
from collections.abc import Callable

import pytest

from harness.cases.probe import must_arrive, ring
from harness.session import Importer, Nvme, Session
from harness.witness import Watch

CALL_S = 1.0
"""Time limit of a call in seconds."""
COMMAND_S = 60.0
"""Time limit of a command in seconds. Writing a gigabyte of zeros takes 4 s on an idle host."""
CALLS = 200
"""Calls after the damage: more than a damaged machine can still answer."""


def in_guest(command: str) -> Callable[[Session], object]:
    """Make a damage that starts a command in the guest and does not wait for it."""
    return lambda session: session.machine.ssh().exec_command(command)


def kill_qemu(session: Session) -> None:
    os.kill(session.machine.pid, signal.SIGKILL)


def stop_vcpus(session: Session) -> None:
    session.machine.qmp.execute("stop")


def reset_from_outside(session: Session) -> None:
    session.machine.qmp.execute("system_reset")


def cut_ssh(session: Session) -> None:
    session.machine.ssh().close()


def in_guest_and_wait(command: str) -> Callable[[Session], object]:
    """Make a damage that runs a command in the guest, and waits until it or the connection ends."""
    return lambda session: session.machine.ssh().exec_command(command, timeout=COMMAND_S)[1].read()


def raise_nonsense(session: Session) -> None:
    raise ValueError("nonsense")


DAMAGE: dict[str, Callable[[Session], object]] = {
    "kill_qemu": kill_qemu,
    "panic": in_guest("echo c > /proc/sysrq-trigger"),
    "reset": in_guest("echo b > /proc/sysrq-trigger"),
    "reset_from_outside": reset_from_outside,
    "stop_vcpus": stop_vcpus,
    "cut_ssh": cut_ssh,
    "kill_ssh_server": in_guest("killall -9 dropbear"),
    "kill_agent": in_guest("killall -9 agent python3.13"),
    "want_memory": in_guest_and_wait("tail /dev/zero"),
    "keep_memory": in_guest_and_wait("mkdir /tmp/a; mount -t tmpfs -o size=4g a /tmp/a; cat /dev/zero > /tmp/a/b"),
    "raise_nonsense": raise_nonsense,
}

pytestmark = pytest.mark.parametrize("damage", DAMAGE, scope="module")  # so that test_during and test_after alternate


def test_during(session: Session, nvme: Nvme, damage: str) -> None:
    """The damage happens while a buffer is exported."""
    nvme.export_doorbells()
    DAMAGE[damage](session)
    for _ in range(CALLS):
        session.agent.call("dmabuf", "bufinfo", timeout=CALL_S)


@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_after(nvme: Nvme, importer: Importer, watch: Watch, damage: str) -> None:
    """After any damage the next case has a working machine."""
    result = ring(nvme, importer.attach(nvme.export_doorbells()), watch)
    must_arrive(result, "a live mapping of the doorbell page reaches the device")

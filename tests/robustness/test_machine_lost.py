# SPDX-License-Identifier: GPL-2.0-only
"""Machines that die: each death has its exception and its evidence, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from commandline import AS_TYPED
from processes import wait_until_gone

from harness.errors import GuestCrashed, GuestHung, HarnessError, QemuDied
from harness.progress import silent
from harness.run.options import Options
from harness.run.setup import Setup
from harness.vm import Machine

DEADLINE = 20.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.prepare(Options(), silent)


@pytest.fixture
def machine(setup: Setup, tmp_path: Path) -> Iterator[Machine]:
    """Return a machine that is ready. Check that the test leaves nothing of it behind."""
    with setup.machine_in(tmp_path) as machine:
        pid, port = machine.pid, machine.ssh_port()
        machine.wait_ready()
        yield machine
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    assert not list(tmp_path.glob("*.img"))


def guest(machine: Machine, command: str) -> paramiko.ChannelFile:
    return machine.ssh().exec_command(command, timeout=DEADLINE)[1]


def notes(error: BaseException) -> str:
    return "\n".join(error.__notes__)


DEATHS: dict[str, tuple[Callable[[Machine], object], type[Exception], str]] = {
    "QEMU killed": (lambda m: os.kill(m.pid, signal.SIGKILL), QemuDied, "killed by SIGKILL"),
    "QEMU aborted": (lambda m: os.kill(m.pid, signal.SIGABRT), QemuDied, "killed by SIGABRT"),
    "QEMU terminated": (lambda m: os.kill(m.pid, signal.SIGTERM), QemuDied, "exit code 0"),
    "guest panicked": (lambda m: guest(m, "echo c > /proc/sysrq-trigger"), GuestCrashed, "sysrq triggered crash"),
    "guest powered off": (lambda m: guest(m, "kill -TERM 1"), GuestCrashed, "shut down by itself .guest-shutdown"),
    "guest reset": (lambda m: guest(m, "echo b > /proc/sysrq-trigger"), GuestCrashed, "reset by itself .guest-reset"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_death_ends_every_wait(machine: Machine, death: str) -> None:
    act, kind, reason = DEATHS[death]
    never: Future[None] = Future()
    act(machine)
    began = time.monotonic()
    with pytest.raises(kind, match=reason) as caught:
        machine.wait_for(never, DEADLINE, "a call that never returns")
    assert time.monotonic() - began < DEADLINE / 2
    assert machine.lost is caught.value
    assert "Linux version" in machine.console.since(0) or "Run /sbin/vfio-harness-init" in notes(caught.value)
    with pytest.raises(kind):
        machine.console.wait_for(b"what never comes", timeout=DEADLINE)


def test_stopped_vcpus_are_a_hang(machine: Machine) -> None:
    machine.qmp.execute("stop")
    with pytest.raises(GuestHung, match="a call that never returns: no answer within") as caught:
        machine.wait_for(Future(), 1.0, "a call that never returns")
    assert "run state: paused" in notes(caught.value)
    assert "RIP=" in notes(caught.value)
    assert machine.lost is None
    machine.qmp.execute("cont")
    assert guest(machine, "echo back").read() == b"back\n"


def test_stuck_task_is_in_the_notes_of_a_hang(machine: Machine) -> None:
    guest(machine, "dd if=/dev/zero of=/dev/null")
    with pytest.raises(GuestHung) as caught:
        machine.wait_for(Future(), 1.0, "a call that never returns")
    assert "sysrq: Show Blocked State" in notes(caught.value)
    assert "Comm: dd" in notes(caught.value)


def test_a_reset_under_an_emulated_kvm_is_no_crash(setup: Setup, tmp_path: Path) -> None:
    """An emulated KVM resets a good kernel, too."""
    emulated = replace(setup, accel=replace(setup.accel, emulated=True))
    with emulated.machine_in(tmp_path) as machine:
        machine.wait_ready()
        guest(machine, "echo b > /proc/sysrq-trigger")
        with pytest.raises(HarnessError, match="an emulated KVM does that"):
            machine.wait_for(Future(), DEADLINE, "a call that never returns")


def test_expected_reset_is_not_a_death(machine: Machine) -> None:
    machine.wait_reset(lambda: guest(machine, "echo b > /proc/sysrq-trigger"), DEADLINE)
    assert machine.lost is None


def test_two_machines_do_not_interfere(setup: Setup, machine: Machine, tmp_path: Path) -> None:
    with setup.machine_in(tmp_path / "other") as other:
        other.wait_ready()
        assert other.ssh_port() != machine.ssh_port()
        guest(other, "echo other > /tmp/name").read()
        assert guest(machine, "cat /tmp/name").read() == b""
        os.kill(other.pid, signal.SIGKILL)
        with pytest.raises(QemuDied):
            other.wait_for(Future(), DEADLINE, "a call")
    assert guest(machine, "echo alive").read() == b"alive\n"


OWNER = """
import sys, time
from pathlib import Path
from harness.progress import silent
from harness.run.options import Options
from harness.run.setup import Setup
with Setup.prepare(Options(), silent).machine_in(Path(sys.argv[1])) as machine:
    print(machine.pid, flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_qemu_dies_with_the_harness(setup: Setup, tmp_path: Path, sign: signal.Signals) -> None:
    argv = [*AS_TYPED, sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        owner.send_signal(sign)
        owner.wait(3)
    wait_until_gone(pid, 3.0)  # QEMU does not outlive the harness


def test_empty_file_as_kernel(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    boot = setup.boot_files()
    bad = replace(boot, kernel=tmp_path / "empty")
    with (
        pytest.raises(HarnessError, match=r"QEMU did not start: exit code 1\n.*(?s:.*)-device nvme"),
        Machine(setup.machine, bad, setup.qemu, setup.accel, tmp_path / "run"),
    ):
        pass
    assert not list((tmp_path / "run").glob("*.img"))

# SPDX-License-Identifier: GPL-2.0-only
"""A machine whose devices are processes of the harness: the end of that process is the harness's fault, at once."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import GuestLost, HarnessError
from harness.progress import silent
from harness.run.judge import judge
from harness.run.options import Options
from harness.run.setup import Setup
from harness.verdict import Verdict
from harness.vm import Machine

DEADLINE = 20.0
QEMU = "debian:11.1"
"""A QEMU with vfio-user-pci. It is fetched at first use."""


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.prepare(Options(machine="vfio-user", qemu=QEMU), silent)


@pytest.fixture
def machine(setup: Setup, tmp_path: Path) -> Iterator[Machine]:
    """Return a started machine. Check that it leaves no process and no socket behind."""
    with setup.machine_in(tmp_path) as machine:
        yield machine
        server = server_of(machine)
    assert not Path(f"/proc/{server}").exists()
    assert not list(tmp_path.glob("*.sock"))


def server_of(machine: Machine) -> int:
    assert machine.devices._process
    return machine.devices._process.pid


def test_the_death_of_the_server_is_an_error_of_the_harness(machine: Machine) -> None:
    machine.wait_ready()
    os.kill(server_of(machine), signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(HarnessError, match="the device server is gone: killed by SIGKILL") as caught:
        machine.wait_for(Future(), DEADLINE, "a call that never returns")
    assert time.monotonic() - began < DEADLINE / 2
    assert not isinstance(caught.value, GuestLost)
    assert judge([caught.value], []).verdict is Verdict.ERROR


def test_a_device_that_holds_qemu_is_no_hang(setup: Setup, machine: Machine) -> None:
    """The hold is longer than the deadline of the call that waits for it."""
    with setup.session_on(machine) as session:
        nvme = session.open_nvme("nvme0")
        hold_s = 5.0
        session.vfio_user("nvme0").behave(reset_hold_s=hold_s)
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            machine.wait_for(pool.submit(nvme.device.reset), 1.0, "a reset")
        assert time.monotonic() - began >= hold_s
        session.vfio_user("nvme0").behave()
        assert machine.devices.allowance_s == 0
        nvme.start()

# SPDX-License-Identifier: GPL-2.0-only
"""The check of the devices from the host, against a real device server."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from vfio_user_client import Client

from harness.config import MachineConfig, load_machine
from harness.device import function
from harness.device.config_space import ConfigSpace
from harness.device.function import Function
from harness.device.log import Log
from harness.device.model import Model
from harness.device.protocol import REGION_ACCESS, Command, Message
from harness.session import device_check
from harness.vm import Machine, device_server
from harness.vm.device_server import DeviceServer
from harness.vm.process import LoopThread

Connect = Callable[[str], Client]


def machine_of(config: MachineConfig, server: DeviceServer) -> Machine:
    return cast(Machine, SimpleNamespace(config=config, devices=server, device_logs=server.logs))


def test_a_sound_device_has_no_fault(machine: MachineConfig, server: DeviceServer) -> None:
    assert device_check.fault(machine_of(machine, server), 0.0) == ""


def test_misbehaviour_of_a_case_is_no_fault(machine: MachineConfig, server: DeviceServer) -> None:
    server.call("nvme0", "behave", gone=True)
    assert device_check.fault(machine_of(machine, server), 0.0) == ""


def test_an_exception_of_a_model_is_found(machine: MachineConfig, server: DeviceServer, connect: Connect) -> None:
    connect("mine").request(Command.REGION_WRITE, REGION_ACCESS.pack(0, 0, 4) + b"boom")
    assert "device mine is faulty: its model failed: ZeroDiv" in device_check.fault(machine_of(machine, server), 0.0)
    assert device_check.fault(machine_of(machine, server), time.monotonic()) == "", "it was before the case"


def test_a_failed_check_of_the_model_is_a_fault(machine: MachineConfig, server: DeviceServer, connect: Connect) -> None:
    client = connect("mine")
    for _ in range(2):
        client.request(Command.REGION_WRITE, REGION_ACCESS.pack(0, 0, 4) + b"data")
    assert "device mine: read: RuntimeError: no config" in device_check.changing_config(machine_of(machine, server))


FAULTY = """\
purpose: test
extends: vfio-user
without: [rp-edu0]
devices:
  - type: pcie-root-port
    id: rp-nvme0
    devices:
      - {{type: vfio-user-pci, id: nvme0, role: under-test, vfio_user: {{model: random-{seed}}}}}
"""
PLAIN, IN_CONFIG = (2, 4, 22), (3, 8, 16)
"""Seeds of harness/device/models/random.py, by what else the device does. 4, 8 and 16 begin later."""


@pytest.mark.parametrize("seed", [*PLAIN, *IN_CONFIG])
def test_a_faulty_model_is_found_whenever_it_begins(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "faulty.yaml"
    file.write_text(FAULTY.format(seed=seed))
    config, thread = load_machine(file), LoopThread("test")
    server = DeviceServer(config, tmp_path, {})
    try:
        server.start(thread)
        with Client(server.sockets["nvme0"]) as client:
            for _ in range(2100):  # it is truthful in as many accesses at most
                client.read(0, 0, 4)
        said = device_check.fault(machine_of(config, server), 0.0)
        assert said.startswith("device nvme0 is faulty: ")
        server.close()
    finally:
        thread.close()


class Slow(Model):
    """Takes 20 ms for each read."""

    def read(self, bar: int, offset: int, length: int) -> bytes:
        time.sleep(0.02)
        return super().read(bar, offset, length)


@pytest.mark.parametrize(("limit_s", "logged"), [(0.01, True), (10.0, False)])
def test_an_answer_that_takes_long_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_s: float, logged: bool
) -> None:
    monkeypatch.setattr(function, "LATE_S", limit_s)
    log, sent = tmp_path / "log", list[Message]()
    slow = Function(ConfigSpace(Slow.IDENTITY, Slow.BARS), Log(log), Slow)

    async def answer() -> None:
        message = Message(1, Command.REGION_READ, REGION_ACCESS.pack(0, 0, 4))
        slow.on_command(cast(Any, SimpleNamespace(send=sent.append)), message)

    asyncio.run(answer())
    assert len(sent) == 1
    assert ('"event": "late"' in log.read_text()) is logged


def test_a_late_answer_is_a_fault(machine: MachineConfig, server: DeviceServer) -> None:
    Log(server.logs["nvme1"]).write("late", command=9, took=12.0)
    said = device_check.fault(machine_of(machine, server), 0.0)
    assert said == "device nvme1 is faulty: it answered an access after 12.0 s"


def test_a_device_that_does_not_answer_is_faulty(
    machine: MachineConfig, server: DeviceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server._process
    monkeypatch.setattr(device_server, "ANSWER_S", 0.2)
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        assert "did not answer behave within 0.2 s" in device_check.fault(machine_of(machine, server), 0.0)
    finally:
        os.kill(server._process.pid, signal.SIGCONT)

# SPDX-License-Identifier: GPL-2.0-only
"""A real device server, as a machine starts it, and a client of its sockets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from vfio_user_client import Client

from harness.config import MachineConfig, load_machine
from harness.vm.device_server import DeviceServer
from harness.vm.process import LoopThread
from harness.witness.device_log import DeviceLogs

MACHINE = """\
purpose: test
extends: vfio-user
without: [rp-edu0]
devices:
  - type: pcie-root-port
    id: rp-edu1
    devices:
      - {type: vfio-user-pci, id: edu1, role: dma-engine, vfio_user: {model: edu, express: false, resets: []}}
  - type: pcie-root-port
    id: rp-mine
    devices:
      - {type: vfio-user-pci, id: mine, vfio_user: {model: mine.py}}
"""
MODEL = '''\
from harness.device.model import Model


class Device(Model):
    """Its first BAR counts the writes to it."""

    writes = 0

    def write(self, bar, offset, data):
        self.writes += 1 if data != b"boom" else 1 // 0

    def read(self, bar, offset, length):
        return self.writes.to_bytes(length, "little")

    def config(self, offset, data):
        if self.writes == 2:
            raise RuntimeError("no config space")
        return data if self.writes < 2 else bytes(reversed(data))
'''


@pytest.fixture
def machine(tmp_path: Path) -> MachineConfig:
    file = tmp_path / "mine.yaml"
    file.write_text(MACHINE)
    (tmp_path / "mine.py").write_text(MODEL)
    return load_machine(file)


@pytest.fixture
def server(machine: MachineConfig, tmp_path: Path) -> Iterator[DeviceServer]:
    drive = tmp_path / "nvme0.img"
    drive.write_bytes(bytes(1 << 20))
    thread = LoopThread("test")
    made = DeviceServer(machine, tmp_path, {"nvme0": drive})
    try:
        made.start(thread)
        yield made
        made.close()
    finally:
        thread.close()


@pytest.fixture
def connect(server: DeviceServer) -> Iterator[Callable[[str], Client]]:
    with ExitStack() as stack:
        yield lambda device: stack.enter_context(Client(server.sockets[device]))


@pytest.fixture
def logs(server: DeviceServer) -> DeviceLogs:
    return DeviceLogs(server.logs)

# SPDX-License-Identifier: GPL-2.0-only
"""The device that docs/device.md shows works as it stands there."""

import errno
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vfio_user_client import Client

from harness.config import load_machine
from harness.device.behaviour import Behaviour
from harness.device.config_space import EXPRESS_DEVCTL
from harness.device.protocol import CONFIG_REGION
from harness.paths import TOP
from harness.vm.device_server import DeviceServer
from harness.vm.process import LoopThread
from harness.witness.device_log import DeviceLogs

DOCUMENT = TOP / "docs" / "device.md"
MACHINE = """\
purpose: test
extends: vfio-user
devices:
  - type: pcie-root-port
    id: rp-mine
    devices:
      - {type: vfio-user-pci, id: mine, vfio_user: {model: late.py}}
"""
ADDRESS, START, STATUS = 0x00, 0x08, 0x0C


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeviceServer]:
    example = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    assert example.startswith("# late.py")
    (tmp_path / "late.py").write_text(example)
    (tmp_path / "late.yaml").write_text(MACHINE)
    thread = LoopThread("test")
    made = DeviceServer(load_machine(tmp_path / "late.yaml"), tmp_path, {})
    try:
        made.start(thread)
        yield made
        made.close()
    finally:
        thread.close()


def test_the_example_does_its_dma_and_does_it_again_after_a_reset(server: DeviceServer) -> None:
    logs, began = DeviceLogs(server.logs), time.monotonic()
    with Client(server.sockets["mine"]) as client:
        client.memory.pieces = {0x1000: bytearray(4)}
        client.write(0, ADDRESS, struct.pack("<Q", 0x1000))
        client.write(0, START, b"sent")
        client.serve_until(lambda: len(logs.dma(began, "mine")) == 1)
        assert (bytes(client.memory.pieces[0x1000]), client.read(0, STATUS, 1)) == (b"sent", b"\2")
        client.memory.pieces.clear()
        client.write(CONFIG_REGION, EXPRESS_DEVCTL, b"\x00\x80")
        client.serve_until(lambda: len(logs.dma(began, "mine")) == 2)
        assert client.read(0, STATUS, 1) == b"\3"
    sent, late = logs.dma(began, "mine")
    assert (sent.errno, late.errno, late.address) == (0, errno.ENODEV, 0x1000)


def test_every_behaviour_of_the_document_exists() -> None:
    rows = (line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `behave("))
    named = {row.split("behave(")[1].split("=")[0] for row in rows}
    assert named == set(Behaviour.__dataclass_fields__)

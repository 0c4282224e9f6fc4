# SPDX-License-Identifier: GPL-2.0-only
"""The device server as a process, driven as QEMU drives it: over its sockets."""

import errno
import json
import os
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from vfio_user_client import Client

from harness.config import MachineConfig
from harness.device import protocol
from harness.device.config_space import AF_CTRL, EXPRESS_DEVCTL
from harness.device.protocol import CONFIG_REGION, Command
from harness.errors import HarnessError
from harness.vm.device_server import DeviceServer
from harness.vm.process import LoopThread
from harness.witness import Doorbell
from harness.witness.device_log import DeviceLogs

Connect = Callable[[str], Client]
SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
BUFFER = 0x40000
CC, CSTS, AQA, ASQ, ACQ, DOORBELLS = 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
QUEUES = 0x100000


def test_qemus_first_questions_are_answered(connect: Connect) -> None:
    client = connect("nvme0")
    version = client.request(Command.VERSION, struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":8}}\0')
    assert version.body[:4] == bytes(4)
    assert version.body.endswith(b"\0")
    assert json.loads(version.body[4:-1]) == {"capabilities": {}}
    info = client.request(Command.DEVICE_GET_INFO, protocol.DEVICE_INFO.pack(16, 0, 0, 0))
    assert protocol.DEVICE_INFO.unpack(info.body) == (16, 3, 9, 5)
    sizes = []
    for region in range(9):
        reply = client.request(Command.DEVICE_GET_REGION_INFO, protocol.REGION_INFO.pack(32, 0, region, 0, 0, 0))
        sizes.append(protocol.REGION_INFO.unpack(reply.body)[4])
    assert sizes == [0x4000, 0, 16 << 20, 0, 0x1000, 0, 0, 4096, 0]
    irqs = connect("af0").request(Command.DEVICE_GET_IRQ_INFO, protocol.IRQ_INFO.pack(16, 0, protocol.MSIX_IRQ, 0))
    assert protocol.IRQ_INFO.unpack(irqs.body)[3] == 8


def test_an_exception_of_a_model_is_logged_and_answered(connect: Connect, logs: DeviceLogs) -> None:
    """Without an answer QEMU would wait, and the whole machine with it."""
    client = connect("mine")
    failed = client.request(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(0, 0, 4) + b"boom")
    assert (failed.flags & protocol.ERROR, failed.error) == (protocol.ERROR, errno.EIO)
    (defect,) = (event for event in logs.since(0.0, "mine") if event.event == "defect")
    assert "ZeroDivisionError" in defect.fields["why"]
    assert not client.request(Command.REGION_READ, protocol.REGION_ACCESS.pack(0, 0, 4)).error


def test_an_unknown_command_and_an_access_outside_a_region_fail(connect: Connect) -> None:
    client = connect("nvme0")
    assert client.request(99).error == errno.EOPNOTSUPP
    beyond = client.request(Command.REGION_READ, protocol.REGION_ACCESS.pack(0x3FFE, 0, 4))
    assert (beyond.flags & protocol.ERROR, beyond.error) == (protocol.ERROR, errno.EINVAL)
    assert client.request(Command.REGION_READ, b"short").error == errno.EINVAL


def test_a_stream_that_is_no_vfio_user_is_closed_and_the_next_one_served(connect: Connect) -> None:
    client = connect("nvme0")
    client.send_raw(b"\0" * 16)
    assert client.ended()
    assert connect("nvme0").read(CONFIG_REGION, 0, 2) == b"\x36\x1b"


def test_a_posted_write_gets_no_reply(connect: Connect) -> None:
    client = connect("nvme0")
    body = protocol.REGION_ACCESS.pack(8, 2, 4) + b"post"
    client.post(Command.REGION_WRITE, body, flags=protocol.NO_REPLY)
    assert client.read(2, 8, 4) == b"post"


def test_memory_is_what_was_written_and_the_host_sees_it_too(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    client.write(2, 0x123, b"data")
    assert client.read(2, 0x122, 6) == b"\0data\0"
    assert bytes.fromhex(server.call("nvme0", "memory", bar=2, offset=0x123, length=4)) == b"data"


def edu_dma(client: Client, source: int, target: int, count: int, command: int) -> None:
    for register, value in ((SOURCE, source), (TARGET, target), (COUNT, count), (COMMAND, command | 1)):
        client.write(0, register, struct.pack("<Q", value))
    client.serve_until(lambda: True)
    while client.read32(0, COMMAND) & 1:
        pass


def test_a_dma_follows_the_answer_to_its_doorbell(connect: Connect, logs: DeviceLogs) -> None:
    client = connect("edu1")
    client.memory.pieces = {0x1000: bytearray(b"12345678"), 0x2000: bytearray(8)}
    began = time.monotonic()
    edu_dma(client, 0x1000, BUFFER, 8, 0)
    edu_dma(client, BUFFER, 0x2000, 8, 2)
    assert client.memory.pieces[0x2000] == b"12345678"
    done = logs.dma(began, "edu1")
    assert [(each.address, each.length, each.write, each.errno) for each in done] == [
        (0x1000, 8, False, 0),
        (0x2000, 8, True, 0),
    ]
    assert began <= done[0].began <= done[0].ended <= done[1].began <= time.monotonic()


def test_a_device_sees_that_its_dma_was_refused(connect: Connect, logs: DeviceLogs) -> None:
    client = connect("edu1")
    began = time.monotonic()
    edu_dma(client, BUFFER, 0x5000, 4, 2)
    (refused,) = logs.dma(began, "edu1")
    assert (refused.address, refused.errno, refused.refused, refused.value) == (0x5000, errno.ENODEV, True, 0)


def test_the_host_has_a_device_do_dma(server: DeviceServer, connect: Connect) -> None:
    with Client(server.sockets["nvme1"]) as client:
        client.memory.pieces = {0x8000: bytearray(16)}
        for address, expected in ((0x8000, 0), (0x9000, errno.ENODEV)):
            call = server._thread.submit(server._call("nvme1", "dma_write", {"address": address, "data": "0102"}))
            client.serve_until(call.done)
            assert call.result() == expected
        assert client.memory.pieces[0x8000][:2] == b"\1\2"


def enable(client: Client, entries: int = 4) -> bytearray:
    """Enable a controller with admin queues at QUEUES. Returns the memory behind them, three pages."""
    memory = bytearray(0x3000)
    client.memory.pieces[QUEUES] = memory
    client.write32(0, CC, 0)
    client.write32(0, AQA, (entries - 1) << 16 | entries - 1)
    client.write(0, ASQ, struct.pack("<Q", QUEUES))
    client.write(0, ACQ, struct.pack("<Q", QUEUES + 0x1000))
    client.write32(0, CC, 1)
    assert client.read32(0, CSTS) == 1
    return memory


def test_a_doorbell_runs_the_queued_command_and_interrupts(connect: Connect, logs: DeviceLogs) -> None:
    client = connect("af0")
    vector = os.eventfd(0)
    flags = protocol.IRQ_SET_DATA_EVENTFD | protocol.IRQ_SET_ACTION_TRIGGER
    client.request(Command.DEVICE_SET_IRQS, protocol.IRQ_SET.pack(20, flags, protocol.MSIX_IRQ, 0, 1), fds=(vector,))
    memory, began = enable(client), time.monotonic()
    struct.pack_into("<BBH20xQ8xI", memory, 0, 0x06, 0, 77, QUEUES + 0x2000, 1)  # Identify Controller
    client.write32(0, DOORBELLS, 1)
    client.serve_until(lambda: bool(memory[0x1000 + 14] & 1))
    assert struct.unpack_from("<H", memory, 0x1000 + 12) == (77,)
    assert memory[0x2004:0x2010] == b"vfio-harness"
    assert logs.doorbells(began) == [Doorbell("sq", 0, 1)]
    client.serve_until(lambda: bool(select.select([vector], [], [], 0)[0]))
    assert os.eventfd_read(vector) == 1
    os.close(vector)


def test_doorbells_that_the_controller_ignores_are_logged_as_qemu_traces_them(
    connect: Connect, logs: DeviceLogs
) -> None:
    client = connect("nvme0")
    enable(client)
    began = time.monotonic()
    for offset, value in ((0, 4), (4, 9), (8 * 60, 1), (8 * 60 + 4, 1)):
        client.write32(0, DOORBELLS + offset, value)
    client.write(0, DOORBELLS + 2, b"\1\0")
    client.write(0, DOORBELLS, struct.pack("<II", 0, 0))
    assert logs.doorbells(began) == [
        Doorbell("sq", 0, 4, accepted=False),
        Doorbell("cq", 0, 9, accepted=False),
        Doorbell("sq", 60, None, accepted=False),
        Doorbell("cq", 60, None, accepted=False),
        Doorbell("sq", 0, None, accepted=False),
        Doorbell("sq", 0, 0),
        Doorbell("cq", 0, 0),
    ]


def test_a_command_that_cannot_be_fetched_fails_the_controller(connect: Connect) -> None:
    client = connect("nvme0")
    enable(client)
    client.memory.pieces.clear()
    client.write32(0, DOORBELLS, 1)
    while not client.read32(0, CSTS) & 2:
        pass


@pytest.mark.parametrize(
    ("device", "write", "how"),
    [("nvme0", (EXPRESS_DEVCTL, b"\x00\x80"), "pcie-flr"), ("af0", (AF_CTRL, b"\x01"), "af-flr")],
)
def test_a_function_level_reset_disables_the_controller_and_keeps_its_memory(
    connect: Connect, logs: DeviceLogs, device: str, write: tuple[int, bytes], how: str
) -> None:
    client = connect(device)
    enable(client)
    client.write(2, 0, b"kept")
    client.write(CONFIG_REGION, 4, b"\x06\x00")
    began = time.monotonic()
    client.write(CONFIG_REGION, *write)
    assert [each.fields["how"] for each in logs.since(began, device) if each.event == "reset"] == [how]
    assert (client.read32(0, CSTS), client.read(CONFIG_REGION, 4, 2), client.read(2, 0, 4)) == (0, b"\0\0", b"kept")


def test_a_reset_of_the_bus_is_a_message_of_its_own(connect: Connect) -> None:
    client = connect("af0")
    enable(client)
    client.request(Command.DEVICE_RESET)
    assert client.read32(0, CSTS) == 0


def flr(client: Client) -> int:
    return client.post_write(CONFIG_REGION, EXPRESS_DEVCTL, b"\x00\x80")


def test_a_slow_reset_is_answered_late(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    server.call("nvme0", "behave", reset_hold_s=0.3)
    began = time.monotonic()
    client.reply_to(flr(client))
    assert 0.3 <= time.monotonic() - began < 3


def test_a_reset_that_hangs_is_never_answered_and_the_link_lives_on(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    server.call("nvme0", "behave", reset_unanswered=True)
    unanswered = flr(client)
    assert client.read(CONFIG_REGION, 0, 2) == b"\x36\x1b"
    assert all(message.id != unanswered for message in client._arrived)


def test_an_unready_device_reads_as_ones_and_comes_back(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    server.call("nvme0", "behave", unready_s=0.3)
    client.reply_to(flr(client))
    assert client.read(CONFIG_REGION, 0, 4) == b"\xff" * 4
    time.sleep(0.35)
    assert client.read(CONFIG_REGION, 0, 2) == b"\x36\x1b"


def test_a_silent_bar_reads_as_ones_and_the_others_answer(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    server.call("nvme0", "behave", silent_bars=[2])
    client.write(2, 0, b"lost")
    assert client.read(2, 0, 4) == b"\xff" * 4
    assert client.read32(0, CSTS) == 0
    server.call("nvme0", "behave")
    assert client.read(2, 0, 4) == bytes(4)


def test_a_device_that_is_gone_does_no_dma(connect: Connect, server: DeviceServer) -> None:
    client = connect("nvme0")
    server.call("nvme0", "behave", gone=True)
    assert client.read(CONFIG_REGION, 0, 4) == b"\xff" * 4
    assert server.call("nvme0", "dma_write", address=0, data="00") == errno.ENODEV


def test_a_device_may_do_dma_after_its_reset(connect: Connect, server: DeviceServer, logs: DeviceLogs) -> None:
    client = connect("nvme0")
    client.memory.pieces = {0x7000: bytearray(4)}
    server.call("nvme0", "behave", reset_dma=[{"after_s": 0.05, "address": 0x7000, "data": "01020304"}])
    answered = time.monotonic()
    client.reply_to(flr(client))
    client.serve_until(lambda: client.memory.pieces[0x7000] == b"\1\2\3\4")
    client.serve_until(lambda: bool(logs.dma(answered, "nvme0")))
    assert logs.dma(answered, "nvme0")[0].began >= answered + 0.05


def test_a_misspelt_behaviour_is_an_error_of_the_harness(server: DeviceServer) -> None:
    with pytest.raises(HarnessError, match=r"device nvme0: behave: .*reset_hold"):
        server.call("nvme0", "behave", reset_hold=1)


def test_a_model_of_a_file_is_a_device(connect: Connect) -> None:
    client = connect("mine")
    client.write(0, 0, b"x")
    client.write(0, 8, b"y")
    assert client.read32(0, 0) == 2


def test_a_machine_names_a_model_that_does_not_exist(machine: MachineConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").unlink()
    thread = LoopThread("test")
    server = DeviceServer(machine, tmp_path, {})
    try:
        with pytest.raises(HarnessError, match=r"mine\.py: no such file"):
            server.start(thread)
        server.close()
    finally:
        thread.close()


def test_the_death_of_the_server_is_noticed_and_explained(server: DeviceServer) -> None:
    assert server._process
    ended = server._thread.submit(server.ended())
    os.kill(server._process.pid, signal.SIGKILL)
    assert "killed by SIGKILL" in str(ended.result(10))
    with pytest.raises(HarnessError):
        server.call("nvme0", "behave")


def test_a_device_that_was_disconnected_can_be_connected_again(server: DeviceServer) -> None:
    with Client(server.sockets["nvme0"]) as client:
        assert client.read(CONFIG_REGION, 0, 2) == b"\x36\x1b"
        server.call("nvme0", "disconnect")
        assert client.ended()
    server.call("nvme0", "disconnect")  # nothing happens without a connection
    with Client(server.sockets["nvme0"]) as client:
        assert client.read(CONFIG_REGION, 0, 2) == b"\x36\x1b"


def test_a_command_that_a_killed_server_has_not_read_is_refused(server: DeviceServer) -> None:
    assert server._process
    os.kill(server._process.pid, signal.SIGSTOP)
    waiting = server._thread.submit(server._call("nvme0", "behave", {}))
    time.sleep(0.1)
    os.kill(server._process.pid, signal.SIGKILL)
    with pytest.raises(HarnessError, match="the device server has ended"):
        waiting.result(10)


def test_the_line_for_a_shell_serves_the_devices_too(machine: MachineConfig, tmp_path: Path) -> None:
    """The line after it can connect at once, also where an earlier server has left its sockets."""
    server = DeviceServer(machine, tmp_path, {})
    for path in server.sockets.values():
        path.touch()
    shell = ("sh", "-c", server.shell_command() + "echo $!")
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        try:
            for path in server.sockets.values():
                with Client(path) as client:
                    assert client.read(CONFIG_REGION, 0, 2) in (b"\x36\x1b", b"\x34\x12")  # the vendors
        finally:
            os.kill(pid, signal.SIGKILL)


def test_the_lines_for_a_shell_do_not_wait_for_a_server_that_ends(machine: MachineConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").unlink()
    shell = ("sh", "-c", DeviceServer(machine, tmp_path, {}).shell_command())
    assert "no such file" in subprocess.run(shell, capture_output=True, text=True, timeout=30, check=False).stderr


def test_close_leaves_no_socket(server: DeviceServer) -> None:
    server.close()
    assert not any(path.exists() for path in server.sockets.values())


def test_a_long_path_gets_a_short_socket(machine: MachineConfig, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    thread = LoopThread("test")
    server = DeviceServer(machine, deep, {})
    try:
        server.start(thread)
        with Client(server.sockets["nvme0"]) as client:
            assert client.read(CONFIG_REGION, 0, 2) == b"\x36\x1b"
        server.close()
        assert not server.sockets["nvme0"].parent.exists()
    finally:
        thread.close()

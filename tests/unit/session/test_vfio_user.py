# SPDX-License-Identifier: GPL-2.0-only
"""The host's side of a vfio-user device: the misbehaviour that it sets, and how much later deadlines are."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.session.vfio_user import SLACK_S, LateDma, VfioUserDevice
from harness.vm import Machine


class FakeServer:
    """Records the commands. ``answers`` are its answers by command."""

    def __init__(self) -> None:
        self.sockets = {"nvme0": "socket", "nvme1": "socket"}
        self.allowance_s = 0.0
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def call(self, device_id: str, do: str, **args: Any) -> Any:
        self.calls.append((device_id, do, args))
        return self.answers.get(do)

    def message_timeout_s(self, device_id: str) -> float:
        return 6.0


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def machine(server: FakeServer) -> Machine:
    return cast(Machine, SimpleNamespace(devices=server))


def test_a_device_of_qemu_has_no_such_side(machine: Machine) -> None:
    with pytest.raises(KeyError, match="edu0"):
        VfioUserDevice(machine, "edu0")


def test_deadlines_are_later_by_what_devices_hold_and_as_before_once_they_behave(
    machine: Machine, server: FakeServer
) -> None:
    first, second = VfioUserDevice(machine, "nvme0"), VfioUserDevice(machine, "nvme1")
    first.behave(reset_hold_s=3.0)
    assert server.allowance_s == 3.0 + SLACK_S
    second.behave(reset_unanswered=True)
    assert server.allowance_s == 9.0 + 2 * SLACK_S
    first.behave(unready_s=1.0)
    assert server.allowance_s == 7.0 + 2 * SLACK_S
    first.behave()
    second.behave(gone=True)
    assert server.allowance_s == 0.0


def test_a_block_of_misbehaviour_ends_with_an_error_too(machine: Machine, server: FakeServer) -> None:
    device = VfioUserDevice(machine, "nvme0")
    with pytest.raises(RuntimeError), device.behaving(silent_bars=[0]):
        raise RuntimeError
    assert [args["silent_bars"] for _, _, args in server.calls] == [[0], []]


def test_late_dma_travels_as_hex(machine: Machine, server: FakeServer) -> None:
    VfioUserDevice(machine, "nvme0").behave(reset_dma=[LateDma(0x1000, b"\1\2", 0.5)])
    assert server.calls[0][2]["reset_dma"] == [{"after_s": 0.5, "address": 0x1000, "data": "0102"}]


def test_a_refusal_is_an_errno_by_name(machine: Machine, server: FakeServer) -> None:
    device = VfioUserDevice(machine, "nvme0")
    server.answers = {"dma_write": 19, "dma_read": [0, "0a0b"]}
    assert device.dma_write(0x1000, b"x") == "ENODEV"
    assert device.dma_read(0x1000, 2) == ("", b"\x0a\x0b")
    server.answers = {"dma_write": 0}
    assert device.dma_write(0x1000, b"x") == ""


def test_a_series_is_stopped_whatever_happens(machine: Machine, server: FakeServer) -> None:
    device = VfioUserDevice(machine, "nvme0")
    with pytest.raises(RuntimeError), device.series(0x1000, modulo=8):
        raise RuntimeError
    assert [do for _, do, _ in server.calls] == ["start_series", "stop_series"]

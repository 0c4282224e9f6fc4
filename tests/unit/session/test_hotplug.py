# SPDX-License-Identifier: GPL-2.0-only
"""What a case has unplugged is plugged in again after it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.session import Agent
from harness.session.hotplug import PLUG_SECONDS, Hotplug
from harness.session.vfio_user import VfioUserDevice
from harness.vm import Machine


class FakeMachine:
    """Records what QEMU and the guest's agent are asked for."""

    slowdown = 2.0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def unplug(self, device_id: str) -> int:
        self.calls.append(("unplug", device_id))
        return 7

    def wait_unplugged(self, device_id: str, mark: int, seconds: float) -> None:
        self.calls.append(("wait", device_id, mark, seconds))

    def plug(self, device_id: str) -> None:
        self.calls.append(("plug", device_id))

    def pci_address(self, device_id: str) -> str:
        return f"bdf of {device_id}"

    def call(self, on: str, do: str, **args: Any) -> None:
        self.calls.append((do, args["bdf"], args["seconds"]))

    def release(self, device_id: str) -> None:
        self.calls.append(("release", device_id))

    def disconnect(self) -> None:
        self.calls.append(("disconnect",))


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def hotplug(machine: FakeMachine) -> Hotplug:
    device = cast(VfioUserDevice, SimpleNamespace(disconnect=machine.disconnect))
    return Hotplug(cast(Machine, machine), cast(Agent, machine), lambda device_id: device)


PLUGGED = [("plug", "nvme0"), ("wait_present", "bdf of nvme0", 2 * PLUG_SECONDS)]


def test_what_is_left_unplugged_is_released_then_plugged_in(hotplug: Hotplug, machine: FakeMachine) -> None:
    hotplug.unplug("nvme0")
    machine.calls.clear()
    hotplug.restore(machine.release)
    assert machine.calls == [("release", "nvme0"), ("wait", "nvme0", 7, PLUG_SECONDS), *PLUGGED]
    machine.calls.clear()
    hotplug.restore(machine.release)
    assert machine.calls == []


def test_a_case_may_plug_in_itself(hotplug: Hotplug, machine: FakeMachine) -> None:
    hotplug.unplug("nvme0")
    hotplug.plug("nvme0")
    assert machine.calls[-2:] == PLUGGED
    machine.calls.clear()
    hotplug.restore(machine.release)
    assert machine.calls == []


def test_a_disconnected_device_has_a_connection_again_once_it_is_plugged_in(
    hotplug: Hotplug, machine: FakeMachine
) -> None:
    hotplug.disconnect("nvme0")
    assert hotplug.disconnected == {"nvme0"}
    hotplug.unplug("nvme0")
    hotplug.plug("nvme0")
    assert machine.calls[0] == ("disconnect",)
    assert not hotplug.disconnected

# SPDX-License-Identifier: GPL-2.0-only
"""The life of an export: what revokes it, what brings it back, and what must leave it alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from harness import probe
from harness.contract import must, must_fail
from harness.probe import Ring
from harness.session import Device, Importer, Nvme, Session, Window
from harness.witness import Watch

D0, D3HOT = 0, 3


@dataclass(frozen=True)
class Trigger:
    """What a user does to a device that must revoke; ``undo`` ends a state that lasts."""

    row: str
    act: Callable[[Device], None]
    undo: Callable[[Device], None] | None = None


MEMORY = Trigger("lifecycle.command-mem", lambda device: device.set_memory(False), lambda device: device.set_memory(True))
POWER = Trigger("lifecycle.d3hot", lambda device: device.set_power_state(D3HOT), lambda device: device.set_power_state(D0))
TRIGGERS = {
    "command-mem": MEMORY,
    "d3hot": POWER,
    "low-power": Trigger("lifecycle.low-power", Device.low_power_entry, Device.low_power_exit),
    "flr": Trigger("lifecycle.devctl-flr", Device.flr),
    "hot-reset": Trigger("lifecycle.hot-reset", Device.hot_reset),
    "reset": Trigger("lifecycle.reset", Device.reset),
}


def triggers(*pairs: str) -> pytest.MarkDecorator:
    """Run the case with each ``trigger importer`` pair, as the rows of the contract that it covers."""
    return pytest.mark.parametrize(
        ("trigger", "importer"),
        [
            pytest.param(trigger, importer, marks=pytest.mark.contract("lifecycle", TRIGGERS[trigger].row))
            for trigger, importer in map(str.split, pairs)
        ],
        indirect=["importer"],
    )


def importers(*names: str) -> pytest.MarkDecorator:
    """Run the case with these importers only."""
    return pytest.mark.parametrize("importer", names, indirect=True)


def ring(nvme: Nvme, window: Window, watch: Watch) -> Ring:
    """Queue a command and ring its doorbell through ``window``."""
    return probe.ring(nvme, probe.queue_command(nvme), window, watch)


@triggers(
    "d3hot iommufd+edu", "d3hot iommufd+nvme", "d3hot rxe",
    "low-power iommufd+nvme", "low-power rxe",
    "flr iommufd+nvme", "flr rxe",
    "hot-reset iommufd+edu", "hot-reset iommufd+nvme", "hot-reset rxe",
)  # fmt: skip
def test_trigger_revokes(nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """Whatever resets or disables the device revokes; once it is back, the same fd can be mapped anew."""
    what = TRIGGERS[trigger]
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    rang = ring(nvme, old, watch)
    must(rang.arrived, f"before {trigger} the mapping is live", rang)

    ticket = probe.queue_command(nvme)
    what.act(nvme.device)
    if what.undo:
        rang = probe.ring(nvme, ticket, old, watch)
        must(rang.blocked, f"while {trigger} lasts no mapping reaches the device", rang)
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be mapped"):
            importer.attach(buffer)
        what.undo(nvme.device)

    nvme.start()
    rang = ring(nvme, old, watch)
    must(rang.blocked, f"a mapping made before {trigger} is dead for good", rang)
    rang = ring(nvme, importer.attach(buffer), watch)
    must(rang.arrived, f"after {trigger} a new mapping of the same fd is live", rang)

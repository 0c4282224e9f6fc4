# SPDX-License-Identifier: GPL-2.0-only
"""Registers that revoke, written by 1, 2 and 4 bytes, and together with their neighbours by one write."""

from dataclasses import dataclass

import pytest

from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Device, Importer, Nvme
from harness.session.device import Register
from harness.witness import Watch

rows = rows_in("lifecycle")

Shape = tuple[int, int]
"""How many bytes before the register a write begins, and its length."""


@dataclass(frozen=True)
class RegisterWrite:
    """A write of a register that revokes."""

    register: Register
    mask: int
    """The bits that decide."""
    revokes: int
    """Their value that revokes."""
    restores: int | None
    """Their value that un-revokes; None if the register does both at once."""
    shapes: tuple[Shape, ...]
    """The writes. vfio splits a write into aligned pieces of up to 4 bytes (vfio_pci_config_rw_single)."""
    harmless: tuple[Shape, ...]
    """Writes of the register's other bytes, and of its neighbours."""


HEADER: Shape = (4, 64)
"""The whole header: COMMAND between the device's ids and its BARs."""
REGISTER_WRITES = {
    "COMMAND": RegisterWrite("COMMAND", 2, 0, 2, ((0, 1), (0, 2), (0, 4), (1, 2), (3, 5), HEADER), ((-1, 1), (-2, 2))),
    "PMCSR": RegisterWrite("PMCSR", 3, 3, 0, ((0, 1), (0, 2), (0, 4), (1, 3), (4, 8)), ((-1, 1), (4, 4))),
    "DEVCTL": RegisterWrite("DEVCTL", 0x8000, 0x8000, None, ((-1, 1), (0, 4), (8, 16)), ((0, 1), (-2, 2))),
}


def write(device: Device, change: RegisterWrite, shape: Shape, value: int) -> None:
    """Write the register in one of its shapes."""
    device.modify_config(change.register, *shape, clear=change.mask, value=value)


@rows("lifecycle.config-writes")
@pytest.mark.parametrize("register", REGISTER_WRITES)
@importers("iommufd+nvme")
def test_each_width_revokes(nvme: Nvme, attach: Attach, importer: Importer, register: str, watch: Watch) -> None:
    """A register revokes and un-revokes once, however many bytes a write has, and its neighbours never do."""
    change = REGISTER_WRITES[register]
    buffer = nvme.export_doorbells()
    device, attachment = nvme.device, attach(buffer)
    for shape in change.shapes:
        what = f"a write of {shape[1]} bytes that begins {shape[0]} bytes before {register}"
        before = attachment.notifications()
        window = importer.attach(buffer)
        attachment.map()
        write(device, change, shape, change.revokes)
        queued = nvme.queue_identify()
        must(not attachment.mapped(), f"{what} revokes", attachment.events())
        must_be_blocked(ring_once(queued, window, watch), f"{what} revokes each mapping")
        if change.restores is not None:
            must(attachment.notifications() == before + 1, f"{what} notifies once", attachment.events()[-4:])
            with must_fail("ENODEV", f"{what} revokes until it is undone"):
                attachment.map()
            write(device, change, shape, change.restores)
        must(
            attachment.notifications() == before + 2, f"{what} un-revokes, and notifies once", attachment.events()[-4:]
        )
        attachment.map()
        attachment.unmap()
    nvme.start()
    window = importer.attach(buffer)
    before = attachment.notifications()
    for start, length in change.harmless:
        device.modify_config(change.register, start, length, clear=0, value=0)
        what = f"a write of {length} bytes beside {register}'s deciding bits"
        must(attachment.notifications() == before, f"{what} notifies no importer", attachment.events()[-4:])
    must_arrive(ring(nvme, window, watch), f"writes beside {register}'s deciding bits disturb no mapping")

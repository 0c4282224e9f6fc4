# SPDX-License-Identifier: GPL-2.0-only
"""BAR 5: the registers of an AHCI controller, written through an importer."""

from contextlib import suppress

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.errors import ImporterRefused
from harness.session import Device, Importer, Session, Window
from harness.witness import Watch

pytestmark = pytest.mark.machine("ahci")
rows = rows_in("ahci")

AHCI = "ahci0"
ABAR = 5
PORT0_PXCLB = 0x100
"""The offset of port 0's PxCLB (AHCI 1.3.1, section 3.3.1): 32 bits that nothing uses while the port is stopped."""


def written(device: Device, watch: Watch, window: Window, value: int) -> bool:
    """Write port 0's PxCLB through an importer. Return whether host and device both have the value.

    Raises ContractBroken if they disagree.
    """
    mark = watch.ahci_mark()
    with suppress(ImporterRefused):  # what the observers saw decides
        window.store32(PORT0_PXCLB, value)
    writes = watch.ahci_writes(mark)
    on_host = ("PxCLB", value) in [(write.register, write.value) for write in writes]
    in_device = int.from_bytes(device.read(ABAR, PORT0_PXCLB, 4), "little") == value
    must(on_host == in_device, "the host sees a write to BAR 5 if and only if the device has its value", writes)
    return on_host


@rows("importers.last-bar")
@importers("iommufd+nvme", "rxe", "dma-api+edu")
def test_bar_5_is_exported(session: Session, importer: Importer, watch: Watch) -> None:
    """A mapping of BAR 5 reaches its registers, and a reset and COMMAND.MEM 0 revoke it as they revoke BAR 0."""
    device = session.open_device(AHCI)
    buffer = device.export(ABAR, [(0, PAGE)])
    value = 0x1000
    for name in ("reset", "memory disable"):
        window = importer.attach(buffer)
        must(written(device, watch, window, value := value + 0x1000), "a live mapping of BAR 5 reaches its registers")
        if name == "reset":
            device.reset()
        else:
            device.set_memory(False)
            with must_fail("ENODEV", "while COMMAND.MEM is clear BAR 5 cannot be mapped"):
                importer.attach(buffer)
            device.set_memory(True)
        dead = not written(device, watch, window, value := value + 0x1000)
        must(dead, f"a mapping of BAR 5 that was made before a {name} does not reach its registers")
    last = written(device, watch, importer.attach(buffer), value + 0x1000)
    must(last, "after all of it a new mapping of BAR 5 reaches its registers")


@rows("uapi.io-bar", "uapi.bounds")
def test_neighbours_of_bar_5(session: Session) -> None:
    """BAR 4 of the same device, an I/O BAR, is refused, and so is a range beyond BAR 5."""
    device = session.open_device(AHCI)
    with must_fail("EINVAL", "an I/O BAR below BAR 5 is refused"):
        device.export(ABAR - 1, [(0, PAGE)])
    with must_fail("EINVAL", "a range beyond BAR 5 is refused"):
        device.export(ABAR, [(0, 2 * PAGE)])
    with must_fail("ENODEV", "the region after BAR 5, the ROM, is refused"):
        device.export(ABAR + 1, [(0, PAGE)])

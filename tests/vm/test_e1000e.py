# SPDX-License-Identifier: GPL-2.0-only
"""32-bit memory BARs with odd numbers, and a ROM that exists: an e1000e network card."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must, must_fail
from harness.session import Importer, Session
from harness.session.feature_request import bars
from harness.witness import Watch

pytestmark = pytest.mark.machine("e1000e")
rows = rows_in("e1000e")

E1000E = "e1000e0"
MTA = 0x5200
"""The offset of the Multicast Table Array in BAR 0: registers that keep what is written."""
VALUE = 0x5A5A0001
ROM = 6
"""VFIO_PCI_ROM_REGION_INDEX."""


@pytest.mark.needs("test_importer")
@rows("importers.odd-bars")
@importers("iommufd+nvme")
def test_odd_bars_are_exported(session: Session, importer: Importer, watch: Watch) -> None:
    """Memory BARs 0, 1 and 3 of 32 bits are exported at their own addresses, and each trigger revokes them."""
    device = session.open_device(E1000E)
    memory = {number: bar for number, bar in bars(session, E1000E).items() if not bar.io}
    assert list(memory) == [0, 1, 3], memory
    buffers = {number: device.export(number, [(0, bar.size)]) for number, bar in memory.items()}
    for name in ("command-mem", "reset", "d3hot", "close"):
        windows = {number: importer.attach(buffer) for number, buffer in buffers.items()}
        attachments = {number: session.attach(buffer, device_id=E1000E) for number, buffer in buffers.items()}
        for number, bar in memory.items():
            attachments[number].map()
            seen = [(entry.address, entry.length) for entry in attachments[number].table().entries]
            must(seen == [(bar.start, bar.size)], f"the card maps its BAR {number} at the address on the bus", seen)
            entries = session.page_table_entries(importer, device, buffers[number])
            whole = entries is None or [entry.offset for entry in entries] == list(range(0, bar.size, PAGE))
            must(whole, f"the page table has each page of BAR {number}, and no other", len(entries or []))
        windows[0].store32(MTA, VALUE)
        found = int.from_bytes(device.read(0, MTA, 4), "little")
        must(found == VALUE, "a mapping of BAR 0 reaches its registers", f"{found:#x}")
        TRIGGERS[name].act(device)
        for number, window in windows.items():
            must(not attachments[number].mapped(), f"{name} ends the mapping of BAR {number} by the DMA API")
            left = session.page_table_entries(importer, device, buffers[number])
            must(not left, f"{name} leaves no page of BAR {number} in the page table", left)
            mark = watch.mark()
            window.store32(0, 0)
            must(watch.faults(mark), f"after {name} a DMA to BAR {number} faults")
            if TRIGGERS[name].undo or name == "close":
                with must_fail("ENODEV", f"after {name} BAR {number} cannot be mapped"):
                    importer.attach(buffers[number])
        if undo := TRIGGERS[name].undo:
            undo(device)


@rows("uapi.region", "uapi.io-bar")
def test_other_regions_are_refused(session: Session) -> None:
    """A ROM that exists is refused as one that does not, and so is the I/O BAR between memory BARs."""
    device = session.open_device(E1000E)
    must(device.read(ROM, 0, 2) == b"\x55\xaa", "the device has a ROM")
    with must_fail("ENODEV", "a ROM cannot be exported"):
        device.export(ROM, [(0, PAGE)])
    with must_fail("EINVAL", "an I/O BAR between memory BARs cannot be exported"):
        device.export(2, [(0, PAGE)])

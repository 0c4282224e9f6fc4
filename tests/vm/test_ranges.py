# SPDX-License-Identifier: GPL-2.0-only
"""Buffers of several ranges: the importer sees one contiguous space, in the order of the export."""

import pytest

from harness.cases.constants import PAGE, SCATTERLIST
from harness.cases.marks import importers, rows_in
from harness.cases.memory import least_growth
from harness.cases.must import must
from harness.cases.types import Attach
from harness.session import Cmb, Importer, Nvme, Session

rows = rows_in("ranges")
pytestmark = pytest.mark.needs("many_ranges")

SCATTERED = [(0x5000, PAGE), (0x2000, PAGE), (0x9000, 2 * PAGE), (0x2000, PAGE)]
"""(offset in the CMB, length): out of order, with gaps, and with one range twice."""


@rows("importers.large", "importers.route-bridge")
@importers("rxe")
def test_ranges_follow_each_other(nvme: Nvme, cmb: Cmb, importer: Importer) -> None:
    """A mapping by the DMA API holds the ranges one after the other, in the order of the export."""
    for page in range(16):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]) * PAGE)
    buffer = nvme.device.export(cmb.region, [(cmb.offset + offset, length) for offset, length in SCATTERED])
    window = importer.attach(buffer)
    found = [page[0] for page in pages(window.read(0, buffer.size()))]
    must(found == [5, 2, 9, 10, 2], "an importer finds the ranges' pages in the order of the export", found)
    window.write(PAGE - 4, bytes(range(1, 9)))
    ends = (
        nvme.device.read(cmb.region, cmb.offset + 0x6000 - 4, 4),
        nvme.device.read(cmb.region, cmb.offset + 0x2000, 4),
    )
    must(b"".join(ends) == bytes(range(1, 9)), "a write over a range's end goes on in the next range", ends)


@rows("importers.large")
@importers("dma-api+edu")
def test_each_range_is_reached(nvme: Nvme, cmb: Cmb, importer: Importer) -> None:
    """A DMA to each range of a buffer reaches that range."""
    for page in range(16):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]))
    buffer = nvme.device.export(cmb.region, [(cmb.offset + offset, length) for offset, length in SCATTERED])
    window = importer.attach(buffer)
    found = [window.read(page * PAGE, 1)[0] for page in range(5)]
    must(found == [5, 2, 9, 10, 2], "an importer's DMA reaches the ranges in the order of the export", found)


def pages(data: bytes) -> list[bytes]:
    """Split data into pages, each of which must hold one value."""
    found = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    must(all(len(set(page)) == 1 for page in found), "an importer reads whole pages of the BAR")
    return found


MANY = 127
"""Ranges. A scatter list of 128 entries or more takes whole pages, which are not in the slab."""
WARM_UP, TIMES = 128, 128
"""Maps. Until the caches of IOVAs and of the slab are full, each map takes memory."""


@rows("around.memory")
@importers("rxe")
def test_unmap_gives_the_list_back(session: Session, nvme: Nvme, cmb: Cmb, importer: Importer) -> None:
    """An unmap frees the scatter list of a map of many ranges."""
    buffer = nvme.device.export(cmb.region, [(cmb.offset + page * PAGE, PAGE) for page in range(0, 2 * MANY, 2)])

    def repeat(times: int) -> None:
        for _ in range(times):
            importer.attach(buffer).detach()

    repeat(WARM_UP)
    limit = TIMES * MANY * SCATTERLIST // 2
    least = least_growth(session, lambda: repeat(TIMES), limit)
    must(least < limit, "an unmap frees the scatter list", f"{least} bytes more after {TIMES} maps")


LONG = 4 << 20
"""Bytes of a range that begins at the second page of the CMB: it needs page tables of its own."""


CYCLES = 16


@pytest.mark.needs("failslab")
@rows("around.iova", "uapi.no-memory")
def test_a_starved_map_of_ranges(session: Session, nvme: Nvme, cmb: Cmb, attach: Attach) -> None:
    """If any allocation of a map of ranges fails, it is refused with ENOMEM, and leaves no range mapped."""
    (rnic, *_) = session.machine.config.with_role("roce")
    buffer = nvme.device.export(cmb.region, [(cmb.offset + PAGE, LONG)] * 2)
    attachment = attach(buffer)
    attachment.map()
    attachment.unmap()
    attachment.map_without_memory(times=CYCLES)  # as in test_a_starved_map_gives_the_address_back
    attachment.map()
    before = attachment.table().entries[0].address
    entries = session.page_table_entries(rnic.id, nvme.device, buffer)
    must(entries is None or len(entries) >= 2, "the page table has an entry for each range", f"{len(entries or [])}")
    attachment.unmap()
    *starved, last = attachment.map_without_memory(times=1)
    must(not last, "a map of which no allocation fails succeeds", last)
    must("ENOMEM" in starved and not {*starved} - {"ENOMEM", ""}, "a map without memory gives ENOMEM", starved)
    left = session.page_table_entries(rnic.id, nvme.device, buffer) or []
    must(not left, "a refused map leaves no range mapped", f"{len(left)} entries")
    attachment.map()
    after = attachment.table().entries[0].address
    must(before == after, "a map that fails gives its IOVA space back", f"{before:#x}, and then {after:#x}")

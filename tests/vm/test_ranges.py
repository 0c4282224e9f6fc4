# SPDX-License-Identifier: GPL-2.0-only
"""Buffers of several ranges: one address space for the importer, whatever order the BAR's pages come in."""

import pytest

from harness.cases.must import must
from harness.session import Importer, Nvme, Session

PAGE = 0x1000
SCATTERED = [(0x5000, PAGE), (0x2000, PAGE), (0x9000, 2 * PAGE), (0x2000, PAGE)]
"""(offset in the CMB, length): neither in order, nor in one piece, nor each only once."""


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("ranges", "importers.large", "importers.route-bridge")
@pytest.mark.parametrize("importer", ["rxe"], indirect=True)
def test_ranges_follow_each_other(nvme: Nvme, importer: Importer) -> None:
    """An importer that maps through the DMA API finds the ranges one after the other, in the order of the export."""
    cmb = nvme.cmb()
    for page in range(16):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]) * PAGE)
    buffer = nvme.device.export(cmb.region, [(cmb.offset + offset, length) for offset, length in SCATTERED])
    window = importer.attach(buffer)
    found = [page[0] for page in batches(window.read(0, buffer.size()))]
    must(found == [5, 2, 9, 10, 2], "an importer finds each range's pages where they follow from the export", found)
    window.write(PAGE - 4, bytes(range(1, 9)))
    ends = (
        nvme.device.read(cmb.region, cmb.offset + 0x6000 - 4, 4),
        nvme.device.read(cmb.region, cmb.offset + 0x2000, 4),
    )
    must(b"".join(ends) == bytes(range(1, 9)), "a write over a range's end goes on in the next range", ends)


def batches(data: bytes) -> list[bytes]:
    """The data, page by page; each is of one value."""
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    must(all(len(set(page)) == 1 for page in pages), "an importer reads whole pages of the BAR")
    return pages


MANY = 127  # ranges; a list of 128 entries or more is made of whole pages, which are not in the slab
ENTRY = 32  # bytes of struct scatterlist on x86-64
WARM_UP, TIMES = 128, 128  # maps; until the caches of IOVAs and of the slab are full, each map costs memory


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("ranges", "around.memory")
@pytest.mark.parametrize("importer", ["rxe"], indirect=True)
def test_unmap_gives_the_list_back(session: Session, nvme: Nvme, importer: Importer) -> None:
    """What a map of many ranges allocates, its unmap gives back."""
    cmb = nvme.cmb()
    buffer = nvme.device.export(cmb.region, [(cmb.offset + page * PAGE, PAGE) for page in range(0, 2 * MANY, 2)])
    for _ in range(WARM_UP):
        importer.attach(buffer).detach()
    before = session.slab()
    for _ in range(TIMES):
        importer.attach(buffer).detach()
    grown = session.slab() - before
    must(grown < TIMES * MANY * ENTRY / 2, "an unmap frees the scatter list", f"{grown} bytes more after {TIMES} maps")

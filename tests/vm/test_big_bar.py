# SPDX-License-Identifier: GPL-2.0-only
"""A buffer of more than 4 GiB in a BAR of RAM, like a GPU's framebuffer: every byte is in its place."""

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import importers
from harness.cases.must import must
from harness.cases.types import Attach
from harness.errors import ImporterRefused
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session
from harness.session.feature_request import bars
from harness.witness import Watch

pytestmark = [pytest.mark.machine("big-bar", "big-bar-pt"), pytest.mark.contract("big-bar", "importers.large")]

GIB = 1 << 30
START, SIZE = 1 * GIB, 6 * GIB
MAX_SG_ENT_SZ = 0xFFFFF000
"""The largest SG entry in bytes: whole pages in 32 bits (drivers/dma-buf/dma-buf-mapping.c)."""

PLACES = {
    "the start": 0,
    "the seam of two SG entries": MAX_SG_ENT_SZ - 3,
    "4 GiB": 4 * GIB - 5,
    "5 GiB": 5 * GIB,
    "the end": SIZE - 61,
}
"""Offsets in the buffer."""
LENGTH = 61
HIGH_IOVA = 512 * GIB
"""An IOVA that nothing uses, at which pages of 1 GiB fit."""


@pytest.fixture
def memory(nvme: Nvme) -> Cmb:
    """The controller's BAR of RAM."""
    return nvme.pmr()


@pytest.fixture
def big_buffer(nvme: Nvme, memory: Cmb) -> DmaBuf:
    """Export 6 GiB of that BAR, from 1 GiB on."""
    return nvme.device.export(memory.region, [(START, SIZE)])


def content(place: str, seed: int) -> bytes:
    """Make bytes that differ between any two places."""
    return bytes((seed + 31 * list(PLACES).index(place) + at) & 0xFF for at in range(LENGTH))


def test_big_buffer_is_reached_everywhere(nvme: Nvme, memory: Cmb, big_buffer: DmaBuf, importer: Importer) -> None:
    """An importer of 6 GiB writes and reads at both ends, across SG entries, and beyond 4 GiB."""
    size = big_buffer.size()
    must(size == SIZE, "an export of more than 4 GiB has the requested size", size)
    window = importer.attach(big_buffer)
    for place, offset in PLACES.items():
        window.write(offset, content(place, 1))
    for place, offset in PLACES.items():
        found = nvme.device.read(memory.region, START + offset, LENGTH)
        must(found == content(place, 1), f"the BAR holds what was written at {place} of a large buffer", found)
        nvme.device.write(memory.region, START + offset, content(place, 101))
    for place, offset in PLACES.items():
        found = window.read(offset, LENGTH)
        must(found == content(place, 101), f"an importer reads the BAR at {place} of a large buffer", found)


def test_part_of_a_big_buffer(nvme: Nvme, memory: Cmb, big_buffer: DmaBuf, importer: Importer) -> None:
    """An importer of 1 GiB at 4.5 GiB of the buffer reaches that part of it."""
    start = 4 * GIB + GIB // 2
    nvme.device.write(memory.region, START + PLACES["5 GiB"], bytes(LENGTH))  # an earlier case may have written there
    window = importer.attach(big_buffer, start, GIB)
    window.write(PLACES["5 GiB"] - start, content("5 GiB", 7))
    found = nvme.device.read(memory.region, START + PLACES["5 GiB"], LENGTH)
    must(found == content("5 GiB", 7), "a part is imported from where it starts, beyond 4 GiB too", found)


@pytest.mark.contract("big-bar", "lifecycle.reset", "importers.large")
def test_reset_revokes_all_of_a_big_buffer(nvme: Nvme, big_buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """VFIO_DEVICE_RESET revokes every part of a large mapping, and a new mapping reaches every part."""
    old = importer.attach(big_buffer)
    nvme.device.reset()
    nvme.start()
    memory = nvme.pmr()
    for place, offset in PLACES.items():
        nvme.device.write(memory.region, START + offset, before := content(place, 11))
        mark, refused = watch.mark(), False
        try:
            old.write(offset, content(place, 99))
        except ImporterRefused:
            refused = True
        must(refused or watch.faults(mark), f"a write at {place} of a revoked mapping is refused")
        found = nvme.device.read(memory.region, START + offset, LENGTH)
        must(found == before, f"a write at {place} of a revoked mapping changes nothing", found)
    new = importer.attach(big_buffer)
    for place, offset in PLACES.items():
        must(new.read(offset, LENGTH) == content(place, 11), f"a new mapping reaches {place}")


def test_entries_are_whole_pages(big_buffer: DmaBuf, attach: Attach) -> None:
    """If one SG entry cannot hold a buffer, each entry is made of whole pages and continues the previous one."""
    attachment = attach(big_buffer)
    attachment.map()
    table = attachment.table()
    odd = [entry for entry in table.entries if entry.address % PAGE or entry.length % PAGE]
    must(not odd, "each SG entry of a large buffer is made of whole pages", table)
    ends = [entry.address + entry.length for entry in table.entries]
    must([entry.address for entry in table.entries[1:]] == ends[:-1], "SG entries follow each other", table)
    must(sum(entry.length for entry in table.entries) == SIZE, "SG entries cover a large buffer", table)


def test_entries_of_a_whole_big_bar(nvme: Nvme, memory: Cmb, attach: Attach) -> None:
    """The SG entries of a buffer of 8 GiB, the third one too, follow each other."""
    attachment = attach(nvme.device.export(memory.region, [(0, 8 * GIB)]))
    attachment.map()
    table = attachment.table()
    ends = [entry.address + entry.length for entry in table.entries]
    must([entry.address for entry in table.entries[1:]] == ends[:-1], "SG entries follow each other", table)
    must(
        len(ends) == 3 and sum(entry.length for entry in table.entries) == 8 * GIB, "three SG entries hold 8 GiB", table
    )


@pytest.mark.contract("big-bar", "importers.iommufd-huge-pages", "importers.iommufd-domain")
@importers("iommufd+nvme")
def test_huge_pages_of_a_big_buffer(
    session: Session, nvme: Nvme, big_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A large mapping has pages of 1 GiB in each domain, so has a copy of a part of it, and a reset revokes all."""
    space, areas = session.ioas(importer), Areas(session, importer, nvme.device, big_buffer, watch)
    windows = {"a map": importer.area(big_buffer, space.map_file(big_buffer, at=HIGH_IOVA))}
    copied = space.copy(space, HIGH_IOVA + GIB, 2 * GIB, at=2 * HIGH_IOVA)
    windows["a copy of a part"] = importer.area(big_buffer, copied, GIB, 2 * GIB)
    domain = session.new_domain(importer)
    for each in (None, domain):
        if each:
            each.enter()
        for name, window in windows.items():
            areas.must_be_live(window, f"{name} of a large buffer has pages of 1 GiB in each domain", size=GIB)
    nvme.device.reset()
    nvme.start()
    nvme.pmr()
    for move in (domain.enter, domain.close):
        move()
        for name, window in windows.items():
            areas.must_be_dead(window, f"a reset revokes {name} of a large buffer in each domain")


WIDE = "edu0"
"""An importer with a DMA mask of 64 bits."""


@pytest.mark.needs("test_importer", "unplug", "hotplug")
@pytest.mark.contract("big-bar", "importers.iova-low")
def test_addresses_below_4_gib_come_first(session: Session, nvme: Nvme, big_buffer: DmaBuf) -> None:
    """A device of 64 bits gets IOVAs below 4 GiB, until one does not fit there: the kernel tries that only once."""
    session.release_device(WIDE)
    session.hotplug.unplug(WIDE)  # the kernel remembers for each device that there was no room
    session.hotplug.plug(WIDE)
    session.importer("dma-api+edu")
    if not session.translated(WIDE):
        pytest.skip(f"no IOMMU translates for {WIDE}: its addresses are not IOVAs")
    small = session.attach(nvme.export_doorbells(), device_id=WIDE)
    large = session.attach(big_buffer, device_id=WIDE)
    log = session.kernel_log()
    small.map()
    (entry,) = small.table().entries
    must(entry.address < 4 * GIB, "the first IOVA of a device is below 4 GiB", hex(entry.address))
    for expected in (1, 0):
        large.map()
        found = [message for message in log.read() if message.endswith("-bit DMA addresses")]
        must(len(found) == expected, "the kernel tries only once to place a large buffer below 4 GiB", found)
        large.unmap()


STRIDE = 8 * GIB // 512
PIECES = [(STRIDE * (number * 197 % 512), PAGE) for number in range(512)]
"""512 pages all over the BAR, in no order, no two of them adjacent."""


@pytest.mark.needs("many_ranges")
@importers("rxe", "dma-api+edu")
def test_scattered_all_over_a_big_bar(nvme: Nvme, memory: Cmb, importer: Importer) -> None:
    """A buffer of 512 pages from all over 8 GiB has each page where the export says, below and above 4 GiB."""
    window = importer.attach(nvme.device.export(memory.region, PIECES))
    for number in range(0, len(PIECES), 64):
        (low, size), (high, _) = PIECES[number], PIECES[number + 1]
        nvme.device.write(memory.region, low + size - 4, bytes(4))
        nvme.device.write(memory.region, high, bytes(4))
        window.write((number + 1) * size - 4, wanted := bytes(range(number % 251, number % 251 + 4)) + b"next")
        found = nvme.device.read(memory.region, low + size - 4, 4) + nvme.device.read(memory.region, high, 4)
        must(found == wanted, f"a write over the end of range {number} goes on in the next one", found)


WHOLE = [(5 * GIB, 2 * GIB), (0, 5 * GIB), (7 * GIB, PAGE)]
"""Ranges of the BAR: one fits an SG entry, one does not, and one is small."""


@pytest.mark.needs("many_ranges")
def test_long_ranges_are_split_one_by_one(session: Session, nvme: Nvme, memory: Cmb, attach: Attach) -> None:
    """Where addresses are not IOVAs, each range has SG entries of its own, split at whole pages."""
    buffer = nvme.device.export(memory.region, WHOLE)
    attachment = attach(buffer, device_id=UNDER_TEST)  # its own BAR has bus addresses on every machine
    attachment.map()
    start = bars(session, UNDER_TEST)[memory.region].start
    expected = [
        (5 * GIB, 2 * GIB),
        (0, MAX_SG_ENT_SZ),
        (MAX_SG_ENT_SZ, 5 * GIB - MAX_SG_ENT_SZ),
        (7 * GIB, PAGE),
    ]
    found = [(entry.address - start, entry.length) for entry in attachment.table().entries]
    must(found == expected, "each range begins an SG entry, and a long one goes on in another", found)

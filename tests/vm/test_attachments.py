# SPDX-License-Identifier: GPL-2.0-only
"""The dma-buf core and its mapping helper: directions, refusals, maps without the lock, and ranges without one area."""

import errno
from collections.abc import Callable
from itertools import pairwise

import pytest

from harness.cases.constants import CMBS_WITHOUT_ONE_AREA, PAGE, SCATTERLIST
from harness.cases.marks import importers, rows_in
from harness.cases.memory import least_growth
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, ring
from harness.cases.types import Attach, Features
from harness.errors import KernelErrno, ProcessEnded
from harness.session import Cmb, Direction, DmaBuf, Importer, Nvme, Session
from harness.session.client import Pending
from harness.witness import Watch

rows = rows_in("importers")
pytestmark = pytest.mark.needs("importer_rules", "test_importer")

STDIN, CLOSED = 0, -1
"""Files of the agent: one that is no dma-buf, and none."""


ACCESS: dict[Direction, str] = {"both": "rw", "to-device": "r", "from-device": "w"}
"""What a device that is mapped in each direction may do."""


@rows("importers.direction")
@importers("dma-api+edu")
def test_a_direction_binds_the_device(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Through the IOMMU a device mapped with DMA_TO_DEVICE cannot write, and with DMA_FROM_DEVICE cannot read."""
    if not session.translated(importer.device_id):
        pytest.skip(f"no IOMMU translates for {importer.device_id}, so nothing holds it to a direction")
    cmb = nvme.cmb()
    buffer = nvme.device.export(cmb.region, [(cmb.offset, PAGE)])
    attachment = session.attach(buffer, device_id=importer.device_id)
    write_only = "write-only" not in session.machine.config.lacks
    for direction, may in ACCESS.items():
        nvme.device.write(cmb.region, cmb.offset, b"old.")
        # Each transfer has a new mapping: QEMU records no fault of an address that it has in its IOTLB.
        attachment.map(direction)
        mark = watch.mark()
        importer.window(buffer, attachment).write(0, b"new.")
        attachment.unmap()
        found, faults = nvme.device.read(cmb.region, cmb.offset, 4), watch.faults(mark)
        blocked = found == b"old." and faults
        must(
            found == b"new." and not faults if "w" in may else blocked,
            f"a device mapped {direction} writes only if that is its direction",
            f"{found!r}, with {len(faults)} faults",
        )
        nvme.device.write(cmb.region, cmb.offset, b"old.")
        attachment.map(direction)
        mark = watch.mark()
        found, faults = importer.window(buffer, attachment).read(0, 4), watch.faults(mark)
        attachment.unmap()
        must(
            found == b"old." and not faults if "r" in may or not write_only else found != b"old." and faults,
            f"a device mapped {direction} reads only if that is its direction",
            f"{found!r}, with {len(faults)} faults",
        )


@rows("importers.refusals")
def test_a_file_that_is_no_buffer_is_refused(attach: Attach) -> None:
    """An attach to a file that is no dma-buf gives EINVAL, and to none EBADF."""
    for file, refusal in ((STDIN, "EINVAL"), (CLOSED, "EBADF")):
        with must_fail(refusal, "a file that is no dma-buf is refused"):
            attach(file)


@rows("importers.unlocked")
@importers("dma-api+edu")
def test_maps_without_the_lock(nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch) -> None:
    """The calls that take dma_resv themselves map, refuse and unmap as those that expect it held."""
    attachment = attach(buffer, device_id=importer.device_id, unlocked=True)
    attachment.map()
    must_arrive(ring(nvme, importer.window(buffer, attachment), watch), "a map without the lock reaches the device")
    attachment.unmap()
    attachment.map()
    nvme.device.set_memory(False)
    must(not attachment.mapped(), "a revoke unmaps what was mapped without the lock", attachment.events())
    with must_fail("ENODEV", "a revoked buffer cannot be mapped without the lock"):
        attachment.map()
    nvme.device.set_memory(True)
    attachment.map()
    attachment.unmap()


BLOCKED_S = 0.1
"""Seconds for which a call that must wait is observed."""
ERESTARTSYS = 512
"""The kernel's own errno for a call that a signal ended (include/linux/errno.h)."""


@pytest.mark.needs("udmabuf", "dma-api")
@rows("importers.static-fence")
def test_a_static_map_waits_for_the_exporters_fence(session: Session) -> None:
    """A static importer's map waits for the exporter's fence (KERNEL); a kill ends the wait, and undoes the map."""
    static = session.attach(session.udmabuf(PAGE), device_id="edu0", static=True)
    static.fence("kernel")
    mapper, first, second = (session.fork() for _ in range(3))
    waiting: list[Pending[object]] = []

    def must_wait(what: str, call: Callable[..., object], *args: str) -> None:
        waiting.append(session.start(call, *args))
        static.wait_notified(1, BLOCKED_S / session.machine.slowdown)
        must(not any(each.done() for each in waiting), f"{what} waits", static.events())

    must_wait("the map of a static importer, for the exporter's fence,", mapper.copy_of(static).map)
    must_wait("a read of bufinfo, for the buffer that the map has locked,", first.inside.call, "dmabuf", "bufinfo")
    must_wait("a second read of bufinfo, for the first one,", second.inside.call, "dmabuf", "bufinfo")
    for process in (second, first, mapper):
        process.kill()
        must(process.ended(), "a kill ends the wait of a map and of a read of bufinfo")
    for each in waiting:
        with pytest.raises(ProcessEnded):
            each.result()
    # with --fail-nth, maps that were refused for want of memory come before
    results = [(event.kind, event.result) for event in static.events() if event.result != -errno.ENOMEM]
    must(results == [("mapped", -ERESTARTSYS)], "a map that a signal ended is refused", results)
    must(len(session.bufinfo()) == 1, "a read of bufinfo that a signal ended leaves it unlocked", session.bufinfo())
    static.signal()
    static.map()
    static.unmap()


NARROW = "testdev0"
"""A device without a driver, so with a DMA mask of 32 bits (pci_setup_device)."""
GIB = 1 << 30
TOO_MANY = 96
"""Exports of a whole CMB in one buffer that fit nowhere: see CMBS_WITHOUT_ONE_AREA."""


REFUSED_MAPS = 5
"""A map that finds no room empties the IOVA allocator's caches, so it shows what an earlier one left there: the next
one, or with lazy flushes one that comes after the timer of the flush queue, 10 ms."""


def areas(session: Session, nvme: Nvme, cmb: Cmb, count: int) -> DmaBuf:
    """Export the whole CMB ``count`` times in one buffer. Skips where no IOMMU translates for the narrow device."""
    if not session.translated(NARROW):
        pytest.skip(f"no IOMMU translates for {NARROW}: its addresses are not IOVAs")
    return nvme.device.export(cmb.region, [(0, cmb.size)] * count)


@pytest.mark.needs("many_ranges")
@rows("importers.areas")
def test_ranges_that_fit_no_single_area(session: Session, nvme: Nvme, cmb: Cmb, attach: Attach) -> None:
    """If no IOVA area holds all ranges, each range has an area of its own, and a revoke removes each."""
    buffer = areas(session, nvme, cmb, CMBS_WITHOUT_ONE_AREA)
    attachment = attach(buffer, device_id=NARROW)
    for _ in range(1 if session.lazy() else 2):  # there is room for one mapping, and a lazy flush keeps the old one's
        attachment.map()
        table = attachment.table()
        lengths = {entry.length for entry in table.entries}
        starts = sorted(entry.address for entry in table.entries)
        alone = (table.nents, lengths) == (CMBS_WITHOUT_ONE_AREA, {cmb.size})
        must(alone, "each range has an SG entry of its own", table.nents)
        must(starts[-1] + cmb.size <= 4 * GIB, "a device of 32 bits has addresses of 32 bits", hex(starts[-1]))
        apart = all(second - first >= cmb.size for first, second in pairwise(starts))
        must(apart, "no two ranges have the same addresses", [hex(start) for start in starts[:8]])
        entries = session.page_table_entries(NARROW, nvme.device, buffer)
        seen = f"{len(entries or [])} entries"
        filled = entries is None or len(entries) >= CMBS_WITHOUT_ONE_AREA
        must(filled, "the page table has an entry for each range", seen)
        nvme.device.set_memory(False)
        left = session.page_table_entries(NARROW, nvme.device, buffer) or []
        must(not left, "a revoke leaves no entry in the page table", f"{len(left)} entries")
        nvme.device.set_memory(True)


@pytest.mark.needs("many_ranges")
@rows("importers.areas", "around.iova")
def test_ranges_that_fit_nowhere(session: Session, nvme: Nvme, cmb: Cmb, buffer: DmaBuf, attach: Attach) -> None:
    """If the IOVA space cannot hold all ranges, the map is refused with ENOMEM, and keeps no part of the space."""
    large = areas(session, nvme, cmb, TOO_MANY)
    too_large, small = attach(large, device_id=NARROW), attach(buffer, device_id=NARROW)
    for _ in range(REFUSED_MAPS):
        with must_fail("ENOMEM", "a buffer larger than the device's IOVA space is refused"):
            too_large.map()
        left = session.page_table_entries(NARROW, nvme.device, large) or []
        must(not left, "a refused map leaves no entry in the page table", f"{len(left)} entries")
    small.map()
    must(small.table().entries[0].address > 0, "after refused maps a page is mapped at an address", small.table())
    small.unmap()


@pytest.mark.needs("many_ranges")
@rows("importers.areas", "around.iova")
def test_no_room_for_the_first_range(session: Session, nvme: Nvme, cmb: Cmb, attach: Attach) -> None:
    """If the IOVA space is full, a map is refused with ENOMEM before it maps a range, and unmaps none."""
    attach(areas(session, nvme, cmb, CMBS_WITHOUT_ONE_AREA), device_id=NARROW).map()
    whole = nvme.device.export(cmb.region, [(0, cmb.size)])
    for _ in range(TOO_MANY - CMBS_WITHOUT_ONE_AREA):
        try:
            attach(whole, device_id=NARROW).map()
        except KernelErrno as refusal:
            must(refusal.name == "ENOMEM", "a map that finds no room is refused with ENOMEM", refusal)
            break
    ranges = attach(areas(session, nvme, cmb, 2), device_id=NARROW)
    small = attach(nvme.device.export(cmb.region, [(0, PAGE)]), device_id=NARROW)
    for _ in range(REFUSED_MAPS):
        with must_fail("ENOMEM", "a buffer is refused while the device's IOVA space is full"):
            ranges.map()
    small.map()
    must(small.table().entries[0].address > 0, "after refused maps a page is mapped at an address", small.table())


MAPS = 16


@pytest.mark.needs("many_ranges")
@rows("importers.areas", "around.memory")
def test_a_refused_map_frees_its_list(
    session: Session, nvme: Nvme, cmb: Cmb, attach: Attach, features: Features
) -> None:
    """A map that is refused after some of its ranges are mapped frees its scatter list."""
    if features["kasan"]:
        pytest.skip("KASAN (CONFIG_KASAN) keeps freed memory in quarantine, so the slab grows anyway")
    attachment = attach(areas(session, nvme, cmb, TOO_MANY), device_id=NARROW)
    console = session.machine.console
    mark = console.mark()

    def refuse(maps: int) -> None:
        for _ in range(maps):
            with must_fail("ENOMEM", "a buffer larger than the device's IOVA space is refused"):
                attachment.map()

    refuse(2)
    if console.says(b"WARNING: ", mark):
        return  # the case is SPLAT; each further map would take the time of many warnings
    limit = MAPS * TOO_MANY * SCATTERLIST // 2
    refuse(MAPS)  # these may find free objects
    least = least_growth(session, lambda: refuse(MAPS), limit)
    must(least < limit, "a refused map frees its scatter list", f"{least} bytes more after {MAPS} maps")

# SPDX-License-Identifier: GPL-2.0-only
"""Kernel drivers as importers: which may attach, and what a mapping contains."""

import pytest

from harness.cases.constants import PAGE, SCATTERLIST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.cases.types import Attach, Features
from harness.errors import KernelErrno
from harness.session import Attachment, Cmb, DmaBuf, Importer, Nvme, Session
from harness.witness import Watch

rows = rows_in("importers")
importer_rules = pytest.mark.needs("importer_rules")

CYCLES = 64
MANY_CYCLES = 16384
SPARE = 8
"""DMA addresses that a mapping of one page may use while the allocator's caches fill."""
UNCACHED = 64 * PAGE
"""Bytes of IOVA space that no cache keeps: once freed, they are free (drivers/iommu/iova.c, iova_rcache_insert)."""


@importer_rules
@rows("importers.no-p2p")
def test_attach_needs_peer2peer(buffer: DmaBuf, attach: Attach) -> None:
    """An importer without allow_peer2peer is refused."""
    with must_fail("EOPNOTSUPP", "an importer without allow_peer2peer is refused"):
        attach(buffer, peer2peer=False)
    attach(buffer, peer2peer=True).map()


@importer_rules
@rows("importers.not-revocable")
def test_attach_needs_a_revoke_callback(buffer: DmaBuf, attach: Attach) -> None:
    """An importer that cannot be notified of a revoke is refused, so it can neither map nor pin."""
    with must_fail("EOPNOTSUPP", "an importer without a callback is refused"):
        attach(buffer, callback=False)
    with must_fail("EOPNOTSUPP", "a static importer is refused"):
        attach(buffer, static=True)


@importer_rules
@rows("importers.pin")
def test_a_pin_keeps_nothing_from_being_revoked(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A revocable importer may pin, and is revoked like any other."""
    pinned = attach(buffer)
    pinned.pin()
    pinned.map()
    nvme.device.set_memory(False)
    must(pinned.notifications() == 1, "a revoke notifies a pinned importer", pinned.events())
    with must_fail("ENODEV", "a revoked buffer cannot be mapped by a pinned importer"):
        pinned.map()
    pinned.unpin()


@importer_rules
@rows("importers.revoked")
def test_a_revoked_buffer_is_refused(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """While a buffer is revoked attach and map are refused; after the un-revoke old and new attachments map."""
    early = attach(buffer)
    nvme.device.set_memory(False)
    with must_fail("ENODEV", "a revoked buffer cannot be attached to"):
        attach(buffer)
    with must_fail("ENODEV", "a revoked buffer cannot be mapped"):
        early.map()
    nvme.device.set_memory(True)
    early.map()
    attach(buffer).map()


@rows("importers.no-pages", "importers.route-bridge")
@importers("dma-api+edu")
def test_a_mapping_is_one_area_without_pages(
    nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A mapping through the host bridge is one SG entry of the buffer's size, with a working address and no page."""
    attachment = attach(buffer, device_id="edu0")
    attachment.map()
    table = attachment.table()
    must(table.nents == 1, "a mapping through the host bridge is contiguous: one SG entry", table)
    (entry,) = table.entries
    must(entry.length == buffer.size(), "the SG entry covers the buffer", table)
    must(not entry.page, "an SG entry carries no page", table)
    must(not (entry.cpu_length or entry.cpu_offset), "an SG entry has no part for the CPU", table)
    must_arrive(ring(nvme, importer.window(buffer, attachment), watch), "the entry's DMA address reaches the device")


@rows("around.iova")
def test_unmapping_gives_the_address_back(buffer: DmaBuf, attach: Attach) -> None:
    """Repeated maps and unmaps use no more DMA addresses than the allocator's caches account for."""
    attachment = attach(buffer)
    addresses = set()
    for _ in range(CYCLES):
        attachment.map()
        addresses.add(attachment.table().entries[0].address)
        attachment.unmap()
    must(len(addresses) <= SPARE, "no IOVA space is lost over map and unmap", f"{len(addresses)} in {CYCLES} cycles")


def address(attachment: Attachment) -> int:
    """Map and unmap. Returns the DMA address, a new one if the last of that size was not freed."""
    attachment.map()
    found = attachment.table().entries[0].address
    attachment.unmap()
    return found


def near(before: int, after: int) -> bool:
    """Return whether two addresses differ by no more than the allocator's caches explain."""
    return abs(before - after) <= SPARE * PAGE


@pytest.mark.needs("many_ranges")
@rows("around.iova")
def test_a_refused_map_gives_the_address_back(nvme: Nvme, cmb: Cmb, attach: Attach) -> None:
    """A map that fails half way, as one of several ranges may, frees the IOVA space that it took."""
    ranges = [(cmb.offset, UNCACHED), (cmb.offset + 2 * UNCACHED, UNCACHED)]
    scattered = attach(nvme.device.export(cmb.region, ranges))
    whole = attach(nvme.device.export(cmb.region, [(cmb.offset, 2 * UNCACHED)]))
    before = address(whole)
    for _ in range(CYCLES):
        try:
            scattered.map()
        except KernelErrno:
            continue
        scattered.unmap()
    after = address(whole)
    must(near(before, after), "a map that is refused gives its IOVA space back", f"{before:#x}, and then {after:#x}")


@pytest.mark.needs("failslab")
@rows("around.iova", "uapi.no-memory")
def test_a_starved_map_gives_the_address_back(nvme: Nvme, cmb: Cmb, attach: Attach) -> None:
    """If any allocation of a map fails, it is refused with ENOMEM, and keeps no IOVA space."""
    attachment = attach(nvme.device.export(cmb.region, [(cmb.offset, UNCACHED)]))
    # After a refusal below 4 GiB the kernel tries no more there for the device. One try of each allocation need not
    # reach that one: the debug flavour's checkers allocate too, until their pools are full.
    attachment.map_without_memory(times=CYCLES)
    before = address(attachment)
    *starved, last = attachment.map_without_memory(times=CYCLES)
    must(not last, "a map of which no allocation fails succeeds", last)
    must("ENOMEM" in starved and not {*starved} - {"ENOMEM", ""}, "a map without memory gives ENOMEM", starved)
    after = address(attachment)
    lost = f"{(before - after) // PAGE} pages less: {before:#x}, and then {after:#x}"
    must(near(before, after), "a map that fails gives its IOVA space back", lost)


@importer_rules
@pytest.mark.needs("dma-api")
@rows("importers.rdma-core")
def test_the_rdma_core_notifies_its_driver(session: Session, nvme: Nvme, buffer: DmaBuf) -> None:
    """The RDMA core notifies an RNIC's driver of a revoke once, and of nothing after it."""
    try:
        region, idle = (session.umem(buffer, device_id="roce0") for _ in range(2))
    except KernelErrno as refusal:
        must(refusal.name == "EOPNOTSUPP", "the RDMA core can attach a pinned, revocable buffer", refusal)
        pytest.skip("this kernel's RDMA core has no pinned buffers that can be revoked")
    must(region.notifications() == 0, "before a revoke the RDMA core does not notify its driver", region.events())
    nvme.device.set_memory(False)
    for each in (region, idle):
        must(each.notifications() == 1, "the RDMA core notifies its driver of a revoke", each.events())
    idle.detach()
    must(idle.notifications() == 1, "the deregistration of a revoked MR does not notify its driver", idle.events())
    nvme.device.set_memory(True)
    nvme.device.set_memory(False)
    must(region.notifications() == 1, "the RDMA core notifies its driver once", region.events())


@pytest.mark.needs("iommufd")
@rows("importers.several")
@importers("dma-api+edu")
def test_each_importer_is_cut(
    session: Session, features: Features, nvme: Nvme, importer: Importer, watch: Watch
) -> None:
    """iommufd, an MR and a driver can import one buffer at the same time, and a reset revokes each mapping."""
    buffer = nvme.export_doorbells()
    others = ["iommufd+nvme", "rxe"] if features["rxe"] else ["iommufd+nvme"]
    windows = [each.attach(buffer) for each in (importer, *map(session.importer, others))]
    for window in windows:
        result = ring(nvme, window, watch)
        must_arrive(result, f"{window.importer.kind.name} reaches the device together with others")
    nvme.device.reset()
    nvme.start()
    for window in windows:
        result = ring(nvme, window, watch)
        must_be_blocked(result, f"a reset revokes the mapping of {window.importer.kind.name} as it does the others")


@rows("around.memory")
def test_unmapping_gives_the_memory_back(session: Session, buffer: DmaBuf, attach: Attach, features: Features) -> None:
    """Repeated maps and unmaps leave the kernel's memory as it was."""
    if features["kasan"]:
        pytest.skip("KASAN (CONFIG_KASAN) keeps freed memory in quarantine, so the slab grows anyway")
    attachment = attach(buffer)
    attachment.cycle(MANY_CYCLES // 8)  # some memory is allocated once
    before = session.slab()
    attachment.cycle(MANY_CYCLES)
    grown = session.slab() - before
    must(grown < MANY_CYCLES * SCATTERLIST // 4, "an unmap frees the scatter list", f"{grown} bytes more")

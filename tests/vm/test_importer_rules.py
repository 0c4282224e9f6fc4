# SPDX-License-Identifier: GPL-2.0-only
"""Kernel drivers as importers: who may attach, and what a mapping is."""

from collections.abc import Callable, Mapping

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.errors import KernelErrno
from harness.session import Attachment, DmaBuf, Importer, Nvme, Session
from harness.witness import Watch

Attach = Callable[..., Attachment]

CYCLES = 64
MANY_CYCLES = 16384
ENTRY = 32
"""Bytes of a ``struct scatterlist`` on x86-64."""
SPARE = 8
"""DMA addresses that a mapping of one page may go through while the allocator's caches fill."""
PAGE = 0x1000
UNCACHED = 64 * PAGE
"""Bytes of IOVA space that no cache keeps: freed, they are free (drivers/iommu/iova.c, iova_rcache_insert)."""


def rows(*names: str) -> pytest.MarkDecorator:
    """The rows of section 3 of the contract that a case covers."""
    return pytest.mark.contract("importers", *(f"importers.{name}" for name in names))


todays = pytest.mark.needs("importer_rules")
by_dma_api = pytest.mark.parametrize("importer", ["dma-api+edu"], indirect=True)


@pytest.fixture
def buffer(nvme: Nvme) -> DmaBuf:
    """The doorbells of the controller under test."""
    return nvme.export_doorbells()


@todays
@rows("no-p2p")
def test_attach_needs_peer2peer(buffer: DmaBuf, attach: Attach) -> None:
    """An importer that does not allow peer resources is refused; one that does is not."""
    with must_fail("EOPNOTSUPP", "an importer without allow_peer2peer is refused"):
        attach(buffer, peer2peer=False)
    attach(buffer, peer2peer=True).map()


@todays
@rows("not-revocable")
def test_attach_needs_a_revoke_callback(buffer: DmaBuf, attach: Attach) -> None:
    """An importer that cannot be told of a revoke is refused, so that it can neither map nor pin."""
    with must_fail("EOPNOTSUPP", "an importer without a callback is refused"):
        attach(buffer, callback=False)
    with must_fail("EOPNOTSUPP", "a static importer is refused"):
        attach(buffer, static=True)


@todays
@rows("pin")
def test_a_pin_keeps_nothing_from_being_revoked(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """An importer that can be revoked may pin; then it is revoked as any other."""
    pinned = attach(buffer)
    pinned.pin()
    pinned.map()
    nvme.device.set_memory(False)
    must(pinned.notifications() == 1, "a pinned importer is told of a revoke", pinned.events())
    with must_fail("ENODEV", "a revoked buffer cannot be mapped by a pinned importer"):
        pinned.map()
    pinned.unpin()


@todays
@rows("revoked")
def test_a_revoked_buffer_is_refused(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """While the buffer is revoked nobody attaches and nobody maps; then both work, also for who was attached before."""
    early = attach(buffer)
    nvme.device.set_memory(False)
    with must_fail("ENODEV", "a revoked buffer cannot be attached to"):
        attach(buffer)
    with must_fail("ENODEV", "a revoked buffer cannot be mapped"):
        early.map()
    nvme.device.set_memory(True)
    early.map()
    attach(buffer).map()


@rows("no-pages", "route-bridge")
@by_dma_api
def test_a_mapping_is_one_area_without_pages(
    nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """Through the host bridge a mapping is one SG entry of the buffer's size, whose address works, and has no page."""
    attachment = attach(buffer, device_id="edu0")
    attachment.map()
    table = attachment.table()
    must(table.nents == 1, "what goes through the host bridge is contiguous: one SG entry", table)
    (entry,) = table.entries
    must(entry.length == buffer.size(), "it covers the buffer", table)
    must(not entry.page, "an SG entry carries no page", table)
    for_cpu = table.orig_nents and (entry.cpu_length or entry.cpu_offset)
    must(not for_cpu, "a mapping has no list for the CPU", table)
    must_arrive(ring(nvme, importer.window(buffer, attachment), watch), "its DMA address reaches the device")


@pytest.mark.contract("importers", "around.iova")
def test_unmapping_gives_the_address_back(buffer: DmaBuf, attach: Attach) -> None:
    """Mapping and unmapping again and again goes through no more DMA addresses than caches account for."""
    attachment = attach(buffer)
    addresses = set()
    for _ in range(CYCLES):
        attachment.map()
        addresses.add(attachment.table().entries[0].address)
        attachment.unmap()
    must(len(addresses) <= SPARE, "no IOVA space is lost over map and unmap", f"{len(addresses)} in {CYCLES} cycles")


def address(attachment: Attachment) -> int:
    """The DMA address of a buffer, mapped for a moment: a new one if the last one of that size was not given back."""
    attachment.map()
    found = attachment.table().entries[0].address
    attachment.unmap()
    return found


def near(before: int, after: int) -> bool:
    """Whether an address is new at most because the allocator's caches have changed."""
    return abs(before - after) <= SPARE * PAGE


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("importers", "around.iova")
def test_a_refused_map_gives_the_address_back(nvme: Nvme, attach: Attach) -> None:
    """A map that gets stuck half way, as one of several ranges may, gives back what it had of the IOVA space."""
    cmb = nvme.cmb()
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


@pytest.mark.contract("importers", "around.iova", "uapi.no-memory")
def test_a_starved_map_gives_the_address_back(buffer: DmaBuf, attach: Attach, features: Mapping[str, bool]) -> None:
    """Whichever allocation of a map fails, the map is refused with ENOMEM and keeps none of the IOVA space."""
    if not features["failslab"]:
        pytest.skip("this kernel cannot make allocations fail (CONFIG_FAILSLAB); FLAVOUR=debug can")
    attachment = attach(buffer)
    attachment.map_without_memory(times=1)  # refused an address below 4 GiB, the device never asks for one again
    before = address(attachment)
    *starved, last = attachment.map_without_memory(times=CYCLES)
    must(not last, "a map of which no allocation fails succeeds", last)
    must("ENOMEM" in starved and not {*starved} - {"ENOMEM", ""}, "a map without memory gives ENOMEM", starved)
    after = address(attachment)
    must(near(before, after), "a map that fails gives its IOVA space back", f"{before:#x}, and then {after:#x}")


@todays
@rows("rdma-core")
def test_the_rdma_core_tells_its_driver(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """The driver of an RNIC is told of a revoke once, and of nothing that comes after, be it deregistration."""
    try:
        region, idle = attach(buffer, rdma=True), attach(buffer, rdma=True)
    except KernelErrno as refusal:
        must(refusal.name == "EOPNOTSUPP", "a pinned, revocable buffer of the RDMA core's is accepted", refusal)
        pytest.skip("this kernel's RDMA core has no pinned buffers that can be revoked")
    must(region.notifications() == 0, "who has registered is told of no revoke before there is one", region.events())
    nvme.device.set_memory(False)
    for each in (region, idle):
        must(each.notifications() == 1, "the RDMA core tells its driver of a revoke", each.events())
    idle.detach()
    must(idle.notifications() == 1, "the deregistration of what is revoked tells nobody again", idle.events())
    nvme.device.set_memory(True)
    nvme.device.set_memory(False)
    must(region.notifications() == 1, "the RDMA core tells its driver once", region.events())


@pytest.mark.needs("iommufd")
@rows("several")
@by_dma_api
def test_each_importer_is_cut(
    session: Session, features: Mapping[str, bool], nvme: Nvme, importer: Importer, watch: Watch
) -> None:
    """One buffer in the hands of iommufd, an MR and a driver: each reaches the device, and a reset cuts each."""
    buffer = nvme.export_doorbells()
    others = ["iommufd+nvme", "rxe"] if features["rxe"] else ["iommufd+nvme"]
    windows = [each.attach(buffer) for each in (importer, *map(session.importer, others))]
    for window in windows:
        must_arrive(ring(nvme, window, watch), f"{window.importer.kind.name} reaches the device beside others")
    nvme.device.reset()
    nvme.start()
    for window in windows:
        must_be_blocked(ring(nvme, window, watch), f"a reset cuts {window.importer.kind.name} as it cuts the others")


@pytest.mark.contract("importers", "around.memory")
def test_unmapping_gives_the_memory_back(
    session: Session, buffer: DmaBuf, attach: Attach, features: Mapping[str, bool]
) -> None:
    """Mapping and unmapping again and again leaves the kernel's memory as it was."""
    if features["kasan"]:
        pytest.skip("KASAN (CONFIG_KASAN) keeps what is freed in quarantine, so that the slab grows anyway")
    attachment = attach(buffer)
    attachment.cycle(MANY_CYCLES // 8)  # what is allocated once
    before = session.slab()
    attachment.cycle(MANY_CYCLES)
    grown = session.slab() - before
    must(grown < MANY_CYCLES * ENTRY // 4, "an unmap frees the scatter list", f"{grown} bytes more")

# SPDX-License-Identifier: GPL-2.0-only
"""iommufd areas while devices, domains and processes come and go: the live stay live, and the dead stay dead."""

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, ring
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session
from harness.session.teardown import import_in_process
from harness.witness import Watch

rows = rows_in("iommufd")

PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""
IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1, 2
"""``enum iommufd_hwpt_alloc_flags`` (include/uapi/linux/iommufd.h)."""
LARGE = 2 << 20
"""Bytes of a large page."""
BELOW = 128 << 30
"""An IOVA that nothing uses, below those that the agent chooses."""


@rows("importers.iommufd-domain", "importers.iommufd-iova")
@importers("iommufd+nvme")
def test_the_first_device_comes_later(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A device finds the live areas of its address space and no dead one; one that it cannot have keeps it out."""
    space = session.ioas()
    dead = space.map_file(cmb_buffer, PAGE, PAGE)
    nvme.device.revoke()
    live = space.map_file(cmb_buffer, PAGE, 3 * PAGE)
    interrupts = session.machine.config.architecture.interrupt_range
    unfit = {
        "starts within a page": {"start": 0x10, "length": PAGE, "at": live + 0x100000},
        "is shorter than a page": {"start": 0, "length": 0x20, "at": live + 0x100000},
        "is at an unaligned IOVA": {"start": 0, "length": PAGE, "at": live + 0x100020},
        "is in the interrupt range": {"start": 0, "length": PAGE, "at": interrupts.start},
    }
    for what, area in unfit.items():
        iova = space.map_file(cmb_buffer, area["start"], area["length"], at=area["at"])
        with must_fail("EADDRINUSE", f"a device does not enter an address space with an area that {what}"):
            session.importer_in(space, importer.kind.name)
        must(space.unmap(iova, area["length"]) == area["length"], f"an area that {what} is unmapped whole")

    importer = session.importer_in(space, importer.kind.name)
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    windows = [importer.area(cmb_buffer, live, PAGE, 3 * PAGE), importer.area(cmb_buffer, dead, PAGE, PAGE)]
    areas.must_be_live(windows[0], "the first device of an address space reaches an area that was there before")
    areas.must_be_dead(windows[1], "the first device of an address space does not reach a dead area")
    nvme.device.reset()
    for window in windows:
        areas.must_be_dead(window, "a reset revokes an area that was there before its first device")
    unmapped = [window.detach() for window in windows]
    must(unmapped == [3 * PAGE, PAGE], "areas that were there before the first device are unmapped whole", unmapped)


@pytest.mark.machine("intel-iommu", "virtio-iommu", "arm64-smmuv3")
@rows("importers.iommufd-domain-refused")
@importers("iommufd+nvme")
def test_a_refused_domain_changes_nothing(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, areas: Areas
) -> None:
    """A domain with features that the IOMMU lacks is refused, and changes neither the address space nor its areas."""
    dead = importer.attach(cmb_buffer, PAGE, PAGE)
    nvme.device.revoke()
    live = importer.attach(cmb_buffer, PAGE, 3 * PAGE)
    other = session.ioas(importer).sibling()
    other.map_file(cmb_buffer)
    for flags in (IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_DIRTY_TRACKING):
        for space in (None, other):
            with must_fail("EOPNOTSUPP", "a domain with features that the IOMMU lacks is refused"):
                session.new_domain(importer, space, flags=flags)
    other.close()  # EBUSY if a refused domain holds it
    areas.must_be_live(live, "after a refused domain a live area is live")
    areas.must_be_dead(dead, "after a refused domain a dead area is dead")
    nvme.device.reset()
    areas.must_be_dead(live, "after a refused domain a reset revokes a live area")


@rows("importers.iommufd-domain")
@importers("iommufd+nvme")
def test_domains_go(session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """The end of a domain, first or later, leaves live areas live and dead ones dead, and a revoke reaches the rest."""
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    dead = importer.attach(cmb_buffer, PAGE, PAGE)
    nvme.device.revoke()
    live = importer.attach(cmb_buffer, PAGE, 3 * PAGE)

    def check(when: str) -> None:
        areas.must_be_live(live, f"{when} a live area is live")
        areas.must_be_dead(dead, f"{when} a dead area is dead")

    session.new_domain(importer).close()
    check("after the end of a second domain")
    later = session.new_domain(importer)
    later.enter()  # ends the first domain, which no device is in any more
    check("after the end of the first domain")
    later.close()
    check("back in a new domain of the address space")
    later = session.new_domain(importer)
    space = session.ioas(importer)
    must(space.unmap(space.map_file(cmb_buffer, 0, PAGE), PAGE) == PAGE, "an area of two domains is unmapped whole")
    later.enter()
    whole = [(page * PAGE, PAGE) for page in range(1, PAGES)]
    areas.must_be_mapped(whole, "an area of two domains is unmapped from the second one too")
    nvme.device.reset()
    for move in (later.enter, later.close):
        move()
        for window in (live, dead):
            areas.must_be_dead(window, "after a reset an area is dead in each domain that is left")
    unmapped = [live.detach(), dead.detach()]
    must(unmapped == [3 * PAGE, PAGE], "dead areas are unmapped whole after the end of their domains", unmapped)


@rows("importers.iommufd-domain")
@importers("iommufd+nvme")
def test_the_device_goes_and_comes(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A device that leaves its address space and enters it again finds live areas live and revoked ones dead."""
    assert importer.device
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    first, second = (importer.attach(cmb_buffer, PAGE, PAGE) for _ in range(2))
    space = session.ioas(importer)
    below = importer.area(cmb_buffer, space.copy(space, second.iova(), PAGE, at=BELOW), PAGE, PAGE)
    importer.device.detach()
    areas.must_be_mapped([], "a device that has left its address space has no mapping")
    must(first.detach() == PAGE, "an area without a domain is unmapped whole")
    importer.device.attach()
    for window in (second, below):
        areas.must_be_live(window, "a device that enters its address space again reaches a live area and its copy")
    importer.device.detach()
    nvme.device.revoke()
    third = importer.attach(cmb_buffer, 2 * PAGE, PAGE)
    importer.device.attach()
    for window in (second, below):
        areas.must_be_dead(window, "a device that enters its address space again does not reach a revoked area")
    areas.must_be_live(third, "a device that enters its address space again reaches a newer area")
    nvme.device.reset()
    importer.device.detach()
    importer.device.attach()
    for window in (second, third):
        areas.must_be_dead(window, "a dead area stays dead while its device goes and comes")
    unmapped = [second.detach(), third.detach()]
    must(unmapped == [PAGE, PAGE], "dead areas whose device went and came are unmapped whole", unmapped)


@pytest.mark.needs("iommu_debugfs")
@rows("importers.iommufd-process", "lifecycle.teardown")
@importers("iommufd+nvme")
def test_an_importing_process_is_killed(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A revoke reaches a mapping of another process, and the kill of that process ends its mapping and no other."""
    process = import_in_process(session, importer, buffer)
    if not (entries := session.page_table_entries(importer, nvme.device, buffer)):
        must(entries is None, "another process has the buffer mapped", entries)
        pytest.skip("the kernel dumps no page table: no Intel IOMMU")
    nvme.device.revoke()
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(entries == [], "a revoke reaches the mapping of another process", entries)
    process.close()

    process = import_in_process(session, importer, buffer)
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(entries, "another process has the same fd mapped after a revoke", entries)
    process.close()
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "the kill of an importing process ends its mapping", entries)
    window = session.importer(importer.kind.name).attach(buffer)
    must_arrive(ring(nvme, window, watch), "the kill of an importing process leaves the buffer live")
    nvme.device.reset()


@rows("importers.iommufd-huge-pages")
@importers("iommufd+nvme")
def test_huge_pages(session: Session, nvme: Nvme, cmb: Cmb, importer: Importer, watch: Watch) -> None:
    """A BAR is mapped by large pages, or by small ones without IOMMU_OPTION_HUGE_PAGES, and a reset revokes each."""
    length = 2 * LARGE
    buffer = nvme.device.export(cmb.region, [(cmb.offset, length)])
    areas = Areas(session, importer, nvme.device, buffer, watch)
    large = importer.attach(buffer)
    areas.must_be_live(large, "a large part of a BAR is mapped by large pages", size=LARGE)
    with must_fail("EINVAL", "IOMMU_OPTION_HUGE_PAGES stays on while a domain has areas"):
        session.ioas(importer).set_huge_pages(False)
    large.detach()

    space = session.ioas()
    space.set_huge_pages(False)
    importer = session.importer_in(space, importer.kind.name)
    areas = Areas(session, importer, nvme.device, buffer, watch)
    small = importer.attach(buffer)
    areas.must_be_live(small, "without IOMMU_OPTION_HUGE_PAGES every page is small", size=PAGE)
    space.set_huge_pages(True)
    large = importer.attach(buffer)
    areas.must_be_live(large, "with IOMMU_OPTION_HUGE_PAGES again new pages are large", size=LARGE)
    nvme.device.reset()
    for window in (small, large):
        areas.must_be_dead(window, "a reset revokes pages of each size")
    areas.must_be_mapped([], "a reset revokes pages of each size")


@rows("importers.iommufd-split")
@importers("iommufd+nvme")
def test_nothing_splits_an_area(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """VFIO_IOMMU_UNMAP_DMA, which splits areas of memory, refuses a part of a buffer and unmaps the whole of one."""
    space = session.ioas(importer).sibling()
    space.set_huge_pages(False)
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    domain = session.new_domain(importer, space)
    for state in ("live", "dead"):
        iova = space.map_file(cmb_buffer)
        if state == "dead":
            nvme.device.revoke()
        for start, length in ((0, PAGE), (PAGE, PAGE), (PAGE, 3 * PAGE)):
            with must_fail("EOPNOTSUPP", f"a part of a {state} area is not unmapped"):
                space.unmap_as_type1(iova + start, length)
        domain.enter()
        whole = [(page * PAGE, PAGE) for page in range(PAGES)]
        areas.must_be_mapped(whole if state == "live" else [], f"an area that was to be split stays {state}")
        unmapped = space.unmap_as_type1(iova, PAGES * PAGE)
        must(unmapped == PAGES * PAGE, f"a {state} area is unmapped whole by VFIO_IOMMU_UNMAP_DMA", unmapped)
        areas.must_be_mapped([], "an area that VFIO_IOMMU_UNMAP_DMA has unmapped is gone")


@pytest.mark.needs("iommufd")
@rows("importers.iommufd-change-process")
def test_accounting_cannot_move(session: Session, nvme: Nvme, cmb_buffer: DmaBuf) -> None:
    """IOMMU_IOAS_CHANGE_PROCESS is refused as long as an address space of the context maps a dma-buf, live or dead."""
    space = session.ioas()
    other = space.sibling()
    space.change_process()
    with must_fail("EOPNOTSUPP", "an IOMMU_IOAS_CHANGE_PROCESS whose __reserved is set is refused"):
        space.change_process(reserved=1)
    iova = other.map_file(cmb_buffer)
    for state in ("live", "dead"):
        with must_fail("EINVAL", f"the accounting of a context with a {state} area of a dma-buf does not move"):
            space.change_process()
        nvme.device.revoke()
    must(other.unmap(iova, PAGES * PAGE) == PAGES * PAGE, "an area whose accounting did not move is unmapped whole")
    space.change_process()

# SPDX-License-Identifier: GPL-2.0-only
"""iommufd as an importer: what IOMMU_IOAS_MAP_FILE refuses, and that a revoke reaches every copy of a mapping."""

import pytest

from harness.cases.constants import PAGE, U64
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Features
from harness.session import (
    IOMMU_IOAS_MAP_READABLE,
    IOMMU_IOAS_MAP_WRITEABLE,
    Cmb,
    DmaBuf,
    Importer,
    Ioas,
    Nvme,
    Session,
)
from harness.witness import Watch

rows = rows_in("iommufd")

PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""


@pytest.fixture
def ioas(session: Session, features: Features) -> Ioas:
    """An IO address space without any device. It needs no IOMMU, so a machine that lacks iommufd can have it."""
    if not features["iommufd"]:
        pytest.skip("this kernel has no iommufd")
    return session.ioas()


@rows("importers.iommufd-ranges")
def test_several_ranges_are_refused(nvme: Nvme, cmb: Cmb, ioas: Ioas) -> None:
    """MAP_FILE takes only a buffer of one range, even for a part that lies within one range."""
    ranges = [(cmb.offset + page * PAGE, PAGE) for page in range(2)]
    ioas.map_file(nvme.device.export(cmb.region, ranges[:1]))
    two = nvme.device.export(cmb.region, ranges)
    for length in (PAGE, 2 * PAGE):
        with must_fail("EOPNOTSUPP", f"{length} bytes of a buffer of two ranges cannot be mapped"):
            ioas.map_file(two, 0, length)


@rows("importers.iommufd-several")
@importers("iommufd+nvme")
def test_several_ranges_are_mapped_in_order(nvme: Nvme, cmb: Cmb, importer: Importer, watch: Watch) -> None:
    """MAP_FILE maps ranges one after another, also a part that crosses them. A reset revokes them all."""
    order = (3, 0, 2)
    for page in range(PAGES):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]) * PAGE)
    buffer = nvme.device.export(cmb.region, [(cmb.offset + page * PAGE, PAGE) for page in order])
    whole, part = importer.attach(buffer), importer.attach(buffer, PAGE, 2 * PAGE)
    for window, pages in ((whole, order), (part, order[1:])):
        for at, page in enumerate(pages):
            seen = window.read(at * PAGE, 4) + window.read((at + 1) * PAGE - 4, 4)
            must(seen == bytes([page]) * 8, "each range of a buffer is where its order says", f"{at}: {seen.hex()}")
    nvme.device.reset()
    nvme.start()
    nvme.cmb()
    for window in (whole, part):
        for at in range(0, window.length, PAGE):
            mark = watch.mark()
            window.read(at, 4)
            blocked = any(fault.device == importer.bdf for fault in watch.faults(mark))
            must(blocked, "a reset revokes each range of a buffer", f"page {at // PAGE} is live")


@pytest.mark.needs("udmabuf")
@rows("importers.iommufd-foreign")
def test_a_foreign_buffer_is_refused(session: Session, cmb_buffer: DmaBuf, ioas: Ioas) -> None:
    """MAP_FILE takes a dma-buf of vfio, and refuses one of another exporter."""
    with must_fail("EOPNOTSUPP", "a dma-buf of udmabuf cannot be mapped"):
        ioas.map_file(session.udmabuf(PAGE))
    ioas.map_file(cmb_buffer)


OUTSIDE = [(0, (PAGES + 1) * PAGE), (PAGE, PAGES * PAGE), (PAGES * PAGE, PAGE), (U64 - PAGE, PAGE), (0, 0), (PAGE, 0)]
"""(start, length): no part of the buffer."""


@rows("importers.iommufd-bounds")
def test_what_is_not_in_the_buffer_is_refused(session: Session, cmb_buffer: DmaBuf, ioas: Ioas) -> None:
    """MAP_FILE takes any part of a buffer, and refuses an empty part or a part beyond the buffer."""
    for start, length in OUTSIDE:
        with must_fail("EINVAL", f"{length:#x} bytes from {start:#x} of {PAGES * PAGE:#x} cannot be mapped"):
            ioas.map_file(cmb_buffer, start, length)
    with must_fail("EOVERFLOW", "a part whose end overflows cannot be mapped"):
        ioas.map_file(cmb_buffer, U64 - PAGE, 2 * PAGE)
    with must_fail("EINVAL", "a part of a memfd that ends within a page of U64_MAX cannot be mapped"):
        ioas.map_file(session.other_file("memfd"), 0, U64 - 2, at=0)
    for start, length in [(0, PAGES * PAGE), (PAGE, 2 * PAGE), ((PAGES - 1) * PAGE, PAGE)]:
        unmapped = ioas.unmap(ioas.map_file(cmb_buffer, start, length), length)
        must(unmapped == length, "a part of the buffer is mapped with the requested length", unmapped)


@rows("importers.iommufd-iova")
def test_a_chosen_iova_has_the_offset_of_its_part(cmb_buffer: DmaBuf, ioas: Ioas) -> None:
    """In an empty address space the kernel chooses an IOVA that has the same offset in its page as the part has."""
    for start, length in ((0x10, 0x20), (PAGE + 0x230, PAGE)):
        iova = ioas.sibling().map_file(cmb_buffer, start, length, fixed=False)
        seen = iova % PAGE
        must(seen == start % PAGE, "the IOVA of a part of a page has the offset of the part", f"{seen:#x}")


@rows("importers.iommufd-bounds", "importers.no-dma-buf")
@importers("iommufd+nvme")
def test_a_part_is_the_right_part(session: Session, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """A mapped part of a buffer, or of a memfd, reaches exactly that part, from its first byte to its last."""
    window = importer.attach(cmb_buffer, PAGE, 2 * PAGE)
    seen = window.read(0, 4) + window.read(PAGE - 4, 8) + window.read(2 * PAGE - 4, 4)
    must(seen == b"\1" * 8 + b"\2" * 8, "a mapping of pages 1 and 2 of a buffer reaches its pages 1 and 2", seen.hex())
    space, memory = session.ioas(importer), session.user_memory(PAGES, in_file=True)
    iova = memory.map(space, PAGE, 2 * PAGE)
    seen, wanted = importer.dma_read(iova, 2 * PAGE), memory.read(PAGE, 2 * PAGE)
    must(seen == wanted, "a mapping of pages 1 and 2 of a memfd reaches its pages 1 and 2", seen[::PAGE].hex())
    space.unmap(iova, 2 * PAGE)


@rows("importers.iommufd-arguments")
def test_bad_arguments_are_refused(cmb_buffer: DmaBuf, ioas: Ioas) -> None:
    """MAP_FILE refuses unknown flags, a map that is neither readable nor writeable, and a missing address space."""
    for unknown in (1 << 3, 1 << 31):
        with must_fail("EOPNOTSUPP", f"the unknown flag {unknown:#x} is refused"):
            ioas.map_file(cmb_buffer, flags=IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | unknown)
    with must_fail("EINVAL", "a map that is neither readable nor writeable is refused"):
        ioas.map_file(cmb_buffer, flags=0)
    destroyed = ioas.sibling()
    destroyed.map_file(cmb_buffer)
    destroyed.close()
    with must_fail("ENOENT", "a map into a destroyed address space is refused"):
        destroyed.map_file(cmb_buffer)


@rows("importers.several")
@pytest.mark.needs("iommufd")
def test_each_address_space_is_cut(session: Session, nvme: Nvme, buffer: DmaBuf, ioas: Ioas, watch: Watch) -> None:
    """A reset removes a buffer from each address space that maps it, also twice, with or without a device."""
    nvme_importer, edu_importer = (session.importer(name) for name in ("iommufd+nvme", "iommufd+edu"))
    idle = ioas.map_file(buffer)
    windows = [importer.attach(buffer) for importer in (nvme_importer, nvme_importer, edu_importer)]
    for window in windows:
        result = ring(nvme, window, watch)
        must_arrive(result, f"{window.importer.kind.name} reaches the device together with others")
    nvme.device.reset()
    nvme.start()
    for window in windows:
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a reset revokes the mapping of {window.importer.kind.name} as it does the others")
    unmapped = ioas.unmap(idle, buffer.size())
    must(unmapped == buffer.size(), "a dead area of an address space without a device is unmapped whole", unmapped)


@rows("importers.iommufd-copy")
@importers("iommufd+nvme")
def test_a_copy_is_cut(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A copy of a live area is live and outlives the original, and a reset revokes it."""
    other = session.ioas(importer).sibling()
    origin = other.map_file(buffer)
    copy = importer.copy(buffer, other, origin)
    other.unmap(origin, buffer.size())
    must_arrive(ring(nvme, copy, watch), "a copy of a live area reaches the device, and outlives the original")
    nvme.device.reset()
    nvme.start()
    must_be_blocked(ring_once(nvme.queue_identify(), copy, watch), "a reset revokes a copy as it does an original")


@rows("importers.iommufd-copy")
@importers("iommufd+nvme")
def test_a_copy_of_the_dead_is_dead(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A copy of a revoked area, made during the revoke or after it, maps nothing, and can be unmapped."""
    space = session.ioas(importer)
    other = space.sibling()
    origin = importer.attach(buffer)
    nvme.device.set_memory(False)
    copies = [importer.copy(buffer, space, origin.iova())]
    idle = other.copy(space, origin.iova(), buffer.size())
    nvme.device.set_memory(True)
    copies += [importer.copy(buffer, space, origin.iova()), importer.copy(buffer, other, idle)]
    for window in copies:
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, "a copy of a dead area does not reach the device")
    unmapped = [window.detach() for window in (origin, *copies)]
    must(set(unmapped) == {buffer.size()}, "a dead area and its copies are unmapped whole, in any order", unmapped)
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "after copies of a dead area the same fd can be mapped again")

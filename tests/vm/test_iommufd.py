# SPDX-License-Identifier: GPL-2.0-only
"""iommufd as an importer: what IOMMU_IOAS_MAP_FILE refuses, and that a revoke finds every copy of a mapping."""

from collections.abc import Mapping

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, DmaBuf, Importer, Ioas, Nvme, Session
from harness.witness import Watch

PAGE = 0x1000
PAGES = 4
TOP = 1 << 64


def rows(*names: str) -> pytest.MarkDecorator:
    """The rows of section 3 of the contract that a case covers."""
    return pytest.mark.contract("iommufd", *(f"importers.{name}" for name in names))


by_nvme = pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)


@pytest.fixture
def ioas(session: Session, features: Mapping[str, bool]) -> Ioas:
    """An IO address space without any device; it needs no IOMMU either."""
    if not features["iommufd"]:
        pytest.skip("this kernel has no iommufd")
    return session.ioas()


@pytest.fixture
def buffer(nvme: Nvme) -> DmaBuf:
    """Four pages of the CMB of the controller under test."""
    cmb = nvme.cmb()
    return nvme.device.export(cmb.region, [(cmb.offset, PAGES * PAGE)])


@rows("iommufd-ranges")
def test_several_ranges_are_refused(nvme: Nvme, ioas: Ioas) -> None:
    """MAP_FILE takes a buffer of one range and no other, not even for a part that lies within one range."""
    cmb = nvme.cmb()
    ranges = [(cmb.offset + page * PAGE, PAGE) for page in range(2)]
    ioas.map_file(nvme.device.export(cmb.region, ranges[:1]))
    two = nvme.device.export(cmb.region, ranges)
    for length in (PAGE, 2 * PAGE):
        with must_fail("EOPNOTSUPP", f"{length} bytes of a buffer of two ranges cannot be mapped"):
            ioas.map_file(two, 0, length)


@rows("iommufd-foreign")
def test_a_foreign_buffer_is_refused(
    session: Session, features: Mapping[str, bool], buffer: DmaBuf, ioas: Ioas
) -> None:
    """MAP_FILE takes a dma-buf of vfio's, and refuses one of another exporter."""
    if not features["udmabuf"]:
        pytest.skip("this kernel has no udmabuf, so no other exporter")
    with must_fail("EOPNOTSUPP", "a dma-buf of udmabuf's cannot be mapped"):
        ioas.map_file(session.udmabuf(PAGE))
    ioas.map_file(buffer)


BEYOND = [(0, (PAGES + 1) * PAGE), (PAGE, PAGES * PAGE), (PAGES * PAGE, PAGE), (TOP - PAGE, PAGE), (0, 0), (PAGE, 0)]
"""(start, length): no part of the buffer."""


@rows("iommufd-bounds")
def test_what_is_not_in_the_buffer_is_refused(buffer: DmaBuf, ioas: Ioas) -> None:
    """MAP_FILE takes any part of a buffer, and nothing that begins or ends beyond it, or is empty."""
    for start, length in BEYOND:
        with must_fail("EINVAL", f"{length:#x} bytes from {start:#x} of {PAGES * PAGE:#x} cannot be mapped"):
            ioas.map_file(buffer, start, length)
    with must_fail("EOVERFLOW", "a part whose end overflows cannot be mapped"):
        ioas.map_file(buffer, TOP - PAGE, 2 * PAGE)
    for start, length in [(0, PAGES * PAGE), (PAGE, 2 * PAGE), ((PAGES - 1) * PAGE, PAGE)]:
        unmapped = ioas.unmap(ioas.map_file(buffer, start, length), length)
        must(unmapped == length, "a part of the buffer is mapped as long as it was asked for", unmapped)


@rows("iommufd-bounds")
@by_nvme
def test_a_part_is_the_right_part(nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """A part of a buffer, mapped from its start, is that part, to its last byte."""
    cmb = nvme.cmb()
    for page in range(PAGES):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page + 1]) * PAGE)
    window = importer.attach(buffer, PAGE, 2 * PAGE)
    seen = window.read(0, 4) + window.read(PAGE - 4, 8) + window.read(2 * PAGE - 4, 4)
    must(seen == b"\2" * 8 + b"\3" * 8, "pages 1 and 2 of a buffer, mapped, are its pages 1 and 2", seen.hex())


@rows("iommufd-arguments")
def test_bad_arguments_are_refused(buffer: DmaBuf, ioas: Ioas) -> None:
    """MAP_FILE refuses flags that it does not know, a map that allows nothing, and an address space that is not."""
    for unknown in (1 << 3, 1 << 31):
        with must_fail("EOPNOTSUPP", f"the flag {unknown:#x} is not known"):
            ioas.map_file(buffer, flags=IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | unknown)
    with must_fail("EINVAL", "a map that is neither readable nor writeable is refused"):
        ioas.map_file(buffer, flags=0)
    gone = ioas.sibling()
    gone.map_file(buffer)
    gone.close()
    with must_fail("ENOENT", "an address space that is gone takes no map"):
        gone.map_file(buffer)


@rows("several")
@pytest.mark.needs("iommufd")
def test_each_address_space_is_cut(session: Session, nvme: Nvme, ioas: Ioas, watch: Watch) -> None:
    """A reset cuts a buffer out of each address space that maps it, also twice, and with a device in it or without."""
    buffer = nvme.export_doorbells()
    importers = [session.importer(name) for name in ("iommufd+nvme", "iommufd+edu")]
    idle = ioas.map_file(buffer)
    windows = [importer.attach(buffer) for importer in (importers[0], *importers)]
    for window in windows:
        must_arrive(ring(nvme, window, watch), f"{window.importer.kind.name} reaches the device beside others")
    nvme.device.reset()
    nvme.start()
    for window in windows:
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a reset cuts {window.importer.kind.name} as it cuts the others")
    unmapped = ioas.unmap(idle, buffer.size())
    must(unmapped == buffer.size(), "a dead area that no device ever saw is unmapped as others are", unmapped)


@rows("iommufd-copy")
@by_nvme
def test_a_copy_is_cut(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A copy of a live area is live, even from an address space without a device, and a reset cuts it too."""
    buffer = nvme.export_doorbells()
    other = session.ioas(importer).sibling()
    origin = other.map_file(buffer)
    copy = importer.copy(buffer, other, origin)
    other.unmap(origin, buffer.size())
    must_arrive(ring(nvme, copy, watch), "a copy of a live area reaches the device, and outlives the original")
    nvme.device.reset()
    nvme.start()
    must_be_blocked(ring_once(nvme.queue_identify(), copy, watch), "a reset cuts a copy as it cuts an original")


@rows("iommufd-copy")
@by_nvme
def test_a_copy_of_the_dead_is_dead(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A copy of a revoked area, made during the revoke or after it, maps nothing, and can be unmapped."""
    buffer = nvme.export_doorbells()
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
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after copies of the dead the same fd can be mapped anew")

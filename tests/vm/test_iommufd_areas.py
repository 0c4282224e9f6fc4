# SPDX-License-Identifier: GPL-2.0-only
"""Areas of an iommufd address space that map a part of a buffer or share one mapping: a revoke cuts each."""

from itertools import pairwise

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE, U64
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.session import READ_WRITE, DmaBuf, Importer, Ioas, Nvme, Session

rows = rows_in("iommufd")

PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""
FAR = 1 << 39
"""An IOVA that nothing uses, above those that the agent chooses and below the limit of the IOMMU."""


@pytest.fixture
def space(session: Session, importer: Importer) -> Ioas:
    """The importer's address space."""
    return session.ioas(importer)


@rows("importers.iommufd-copy", "importers.iommufd-copy-parts")
@importers("iommufd+nvme")
def test_copies_of_parts(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, space: Ioas, areas: Areas) -> None:
    """A copy of a part, of a copy, or across areas reaches its own pages, outlives its origin, and is revoked."""
    other = space.sibling()
    origin = other.map_file(cmb_buffer)
    parts = {  # name: first page and number of pages. The last one finds its middle in a domain and its ends in none.
        "the middle": (1, 2),
        "the last page": (3, 1),
        "the whole": (0, PAGES),
    }
    windows = {}
    for name, (page, count) in parts.items():
        start, length = page * PAGE, count * PAGE
        windows[name] = importer.area(cmb_buffer, space.copy(other, origin + start, length), start, length)
        areas.must_be_live(windows[name], f"a copy of {name} of an area reaches those pages")
    middle = windows["the middle"].iova()
    assert middle is not None
    windows["a copy's second page"] = importer.area(cmb_buffer, space.copy(space, middle + PAGE, PAGE), 2 * PAGE, PAGE)
    must(windows.pop("the middle").detach() == 2 * PAGE, "a copy is unmapped whole")
    must(other.unmap_all() == PAGES * PAGE, "the origin is unmapped whole")
    for name, window in windows.items():
        areas.must_be_live(window, f"a copy of {name} outlives the area that it was made of")
    nvme.device.reset()
    for name, window in windows.items():
        areas.must_be_dead(window, f"a reset revokes a copy of {name}")
    areas.must_be_mapped([], "a reset revokes every copy of a part")
    unmapped = {name: window.detach() for name, window in windows.items()}
    must(
        unmapped == {name: window.length for name, window in windows.items()},
        "dead copies are unmapped whole",
        unmapped,
    )


@rows("importers.iommufd-copy-parts")
@importers("iommufd+nvme")
def test_a_copy_across_areas(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, space: Ioas, areas: Areas) -> None:
    """A copy of adjacent areas makes an area for each, also if one of them is dead."""
    other = space.sibling()
    other.map_file(cmb_buffer, 0, PAGE, at=FAR)
    nvme.device.revoke()
    other.map_file(cmb_buffer, 3 * PAGE, PAGE, at=FAR + PAGE)
    other.map_file(cmb_buffer, PAGE, 2 * PAGE, at=FAR + 2 * PAGE)
    iova = space.copy(other, FAR, PAGES * PAGE)
    dead = importer.area(cmb_buffer, iova, 0, PAGE)
    live = [
        importer.area(cmb_buffer, iova + PAGE, 3 * PAGE, PAGE),
        importer.area(cmb_buffer, iova + 2 * PAGE, PAGE, 2 * PAGE),
    ]
    areas.must_be_dead(dead, "the copy of a dead area is dead next to live ones")
    for window in live:
        areas.must_be_live(window, "the copy of a live area is live next to a dead one")
    nvme.device.revoke()
    for window in live:
        areas.must_be_dead(window, "a revoke reaches each area that one copy made")
    unmapped = space.unmap(iova, PAGES * PAGE)
    must(unmapped == PAGES * PAGE, "areas that one copy made are unmapped at once", unmapped)


@rows("importers.iommufd-copy-parts", "importers.iommufd-arguments")
@importers("iommufd+nvme")
def test_what_cannot_be_copied(cmb_buffer: DmaBuf, importer: Importer, space: Ioas, areas: Areas) -> None:
    """A copy of what is not mapped, at an unfit IOVA, or with bad arguments is refused and leaves nothing behind."""
    other, gone = space.sibling(), space.sibling()
    gone.close()
    origin = other.map_file(cmb_buffer, at=FAR)
    for iova, length in ((FAR - PAGE, 2 * PAGE), (FAR, (PAGES + 1) * PAGE), (FAR + PAGES * PAGE, PAGE)):
        with must_fail("ENOENT", f"a copy of {length:#x} bytes at {iova - FAR:#x} of an area is refused"):
            space.copy(other, iova, length)
    with must_fail("EINVAL", "an empty copy is refused"):
        space.copy(other, origin, 0)
    for iova, length, at in (
        (U64 - 1, PAGE, FAR),
        (U64 - PAGE, 2 * PAGE, FAR),
        (origin, U64 - 1, FAR),
        (origin, PAGE, U64 - 1),
        (origin, 2 * PAGE, U64 - PAGE),
    ):
        with must_fail("EOVERFLOW", "a copy whose source or destination overflows is refused"):
            space.copy(other, iova, length, at=at)
    with must_fail("EINVAL", "a copy that is neither readable nor writeable is refused"):
        space.copy(other, origin, PAGE, flags=0)
    with must_fail("EOPNOTSUPP", "a copy with an unknown flag is refused"):
        space.copy(other, origin, PAGE, flags=READ_WRITE | 1 << 3)
    with must_fail("ENOENT", "a copy from a destroyed address space is refused"):
        space.copy(gone, origin, PAGE)
    with must_fail("ENOENT", "a copy into a destroyed address space is refused"):
        gone.copy(other, origin, PAGE)
    with must_fail("EINVAL", "a copy to an unaligned IOVA is refused"):
        space.copy(other, origin, PAGE, at=FAR + 0x800)
    with must_fail("EEXIST", "a copy over an area is refused"):
        other.copy(other, origin, PAGE, at=FAR + PAGE)
    areas.must_be_mapped([], "a refused copy maps nothing")
    window = importer.area(cmb_buffer, space.copy(other, origin, PAGES * PAGE, at=FAR))
    areas.must_be_live(window, "after refused copies the same area can be copied")


@rows("importers.iommufd-unmap", "importers.iommufd-unmap-parts")
@importers("iommufd+nvme")
def test_an_area_is_unmapped_whole(
    nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, space: Ioas, areas: Areas
) -> None:
    """An unmap of a part is refused and cuts nothing; one that covers live and dead areas unmaps each and counts."""
    space.map_file(cmb_buffer, 0, 2 * PAGE, at=FAR)
    nvme.device.revoke()
    space.map_file(cmb_buffer, at=FAR + 2 * PAGE)
    dead = importer.area(cmb_buffer, FAR, 0, 2 * PAGE)
    live = importer.area(cmb_buffer, FAR + 2 * PAGE)
    for window in (dead, live):
        base = window.iova()
        assert base is not None
        for start, length in ((0, PAGE), (PAGE, window.length - PAGE), (1, window.length - 2), (0, window.length - 1)):
            with must_fail("ENOENT", f"an unmap of {length:#x} bytes at {start:#x} of an area is refused"):
                space.unmap(base + start, length)
    with must_fail("ENOENT", "an unmap that ends within an area is refused"):
        space.unmap(FAR - PAGE, 2 * PAGE)
    with must_fail("ENOENT", "an unmap of nothing is refused"):
        space.unmap(FAR - PAGE, PAGE)
    with must_fail("EINVAL", "an empty unmap is refused"):
        space.unmap(FAR, 0)
    (gone := space.sibling()).close()
    with must_fail("ENOENT", "an unmap in a destroyed address space is refused"):
        gone.unmap(FAR, PAGE)
    other = space.sibling()
    other.map_file(cmb_buffer, at=FAR)
    with must_fail("ENOENT", "an unmap from IOVA 0 that ends within an area is refused"):
        other.unmap(0, FAR + PAGE)
    unmapped = other.unmap(0, FAR + PAGES * PAGE)
    must(unmapped == PAGES * PAGE, "an unmap from IOVA 0 unmaps the area at its end", unmapped)
    for iova, length in ((U64 - PAGE, 2 * PAGE), (U64 - 1, PAGE), (PAGE, U64 - 1)):
        with must_fail("EOVERFLOW", "an unmap of what overflows is refused"):
            space.unmap(iova, length)
    areas.must_be_live(live, "a refused unmap leaves the area live")
    areas.must_be_dead(dead, "a refused unmap leaves a dead area dead")
    unmapped = space.unmap(FAR - PAGE, (2 + PAGES + 2) * PAGE)
    must(unmapped == (2 + PAGES) * PAGE, "an unmap that covers two areas returns the sum of their lengths", unmapped)
    for window in (dead, live):
        areas.must_be_dead(window, "an unmap of more than two areas unmaps both")


@rows("importers.iommufd-unmap-parts")
@importers("iommufd+nvme")
def test_everything_is_unmapped(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, areas: Areas
) -> None:
    """An unmap of 0 to U64_MAX unmaps live and dead areas from the domain, and succeeds without any."""
    other = session.ioas(importer).sibling()
    domain = session.new_domain(importer, other)
    must(other.unmap_all() == 0, "an unmap of everything succeeds if there is nothing")
    other.map_file(cmb_buffer)
    nvme.device.revoke()
    other.map_file(cmb_buffer, PAGE, PAGE)
    domain.enter()
    areas.must_be_mapped([(PAGE, PAGE)], "a domain over another address space has its live areas")
    unmapped = other.unmap_all()
    must(unmapped == (PAGES + 1) * PAGE, "an unmap of everything returns the bytes of live and dead areas", unmapped)
    areas.must_be_mapped([], "an unmap of everything leaves nothing")


@rows("importers.iommufd-iova")
@importers("iommufd+nvme")
def test_iovas(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, space: Ioas, areas: Areas) -> None:
    """MAP_FILE and IOAS_COPY take the IOVA that they are given or return a free one, and refuse an unfit one."""
    space.map_file(cmb_buffer, at=FAR)
    for at in (FAR, FAR + (PAGES - 1) * PAGE, FAR - (PAGES - 1) * PAGE):
        with must_fail("EEXIST", "a map over an area is refused"):
            space.map_file(cmb_buffer, at=at)
    machine = areas.session.machine.config
    interrupts = machine.architecture.interrupt_range
    beyond = [1 << 48, U64 - 2 * PAGE] if machine.iommu_type == "intel-iommu" else []
    for at in (FAR + 0x100800, interrupts.start, interrupts.start - PAGE, interrupts.stop - PAGE, *beyond):
        with must_fail("EINVAL", f"a map at {at:#x}, which is unaligned or reserved, is refused"):
            space.map_file(cmb_buffer, 0, 2 * PAGE, at=at)
    for start, length in ((0, PAGE - 1), (0x800, PAGE), (0x800, 0x800)):
        with must_fail("EINVAL", f"a map of {length:#x} bytes from {start:#x} in pages of the IOMMU is refused"):
            space.map_file(cmb_buffer, start, length)
    for at, length in ((U64 - PAGE, 2 * PAGE), (U64 - 1, PAGE), (FAR, U64 - 1)):
        with must_fail("EOVERFLOW", "a map of a range that overflows is refused"):
            space.map_file(cmb_buffer, 0, length, at=at)
    must(space.unmap(FAR, PAGES * PAGE) == PAGES * PAGE, "the area that was there is unmapped whole")
    areas.must_be_mapped([], "a refused map maps nothing")

    windows = []
    for start in (0, PAGE):
        chosen = space.map_file(cmb_buffer, start, fixed=False)
        windows.append(importer.area(cmb_buffer, chosen, start))
        copied = space.copy(space, chosen, PAGE, fixed=False)
        windows.append(importer.area(cmb_buffer, copied, start, PAGE))
    taken = [range(iova, iova + window.length) for window in windows if (iova := window.iova())]
    must(all(each.start % PAGE == 0 for each in taken), "the kernel chooses IOVAs of whole pages", taken)
    apart = all(a.stop <= b.start for a, b in pairwise(sorted([*taken, interrupts], key=lambda each: each.start)))
    must(apart and len(taken) == len(windows), "the kernel chooses IOVAs that nothing else uses", taken)
    for window in windows:
        areas.must_be_live(window, "an area at an IOVA that the kernel chose is live")
    nvme.device.reset()
    for window in windows:
        areas.must_be_dead(window, "a reset revokes an area at an IOVA that the kernel chose")

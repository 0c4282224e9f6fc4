# SPDX-License-Identifier: GPL-2.0-only
"""What a mapping allows: the flags of an iommufd map or copy do, and the access mode of the dma-buf's fd does not."""

import os

from harness.cases.areas import Areas
from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, DmaBuf, Importer, Nvme, Session
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.witness import Watch

rows = rows_in("iommufd")

ACCESS = {
    "readable": (IOMMU_IOAS_MAP_READABLE, True, False),
    "writeable": (IOMMU_IOAS_MAP_WRITEABLE, False, True),
    "readable and writeable": (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE, True, True),
}
"""Flags of a map, and whether a device may then read and write."""


def access(session: Session, name: str) -> tuple[int, bool, bool]:
    """Return a line of ``ACCESS``. Not every IOMMU can forbid reads where it allows writes."""
    flags, read, write = ACCESS[name]
    return flags, read or "write-only" in session.machine.config.lacks, write


@rows("importers.iommufd-permissions")
@importers("iommufd+nvme")
def test_an_area_allows_its_access(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A map allows a device to read if it is readable and to write if it is writeable, in each domain."""
    space, areas = session.ioas(importer), Areas(session, importer, nvme.device, cmb_buffer, watch)
    domains = [session.new_domain(importer)]
    windows = {
        name: importer.area(cmb_buffer, space.map_file(cmb_buffer, PAGE, PAGE, flags=flags), PAGE, PAGE)
        for name, (flags, _, _) in ACCESS.items()
    }
    domains.append(session.new_domain(importer))
    for domain in (None, *domains):
        if domain:
            domain.enter()
        for name, window in windows.items():
            _, read, write = access(session, name)
            areas.must_be_live(window, f"an area that is {name} allows just that", read=read, write=write)
    nvme.device.reset()
    for name, window in windows.items():
        areas.must_be_dead(window, f"a reset revokes an area that is {name}")


@rows("importers.iommufd-permissions")
@importers("iommufd+nvme")
def test_a_copy_allows_no_more(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A copy allows what its flags say, and a writeable copy of a buffer that was mapped read-only is refused."""
    space, areas = session.ioas(importer), Areas(session, importer, nvme.device, cmb_buffer, watch)
    other = space.sibling()
    origins = {name: other.map_file(cmb_buffer, PAGE, PAGE, flags=flags) for name, (flags, _, _) in ACCESS.items()}
    for asked in ("writeable", "readable and writeable"):
        with must_fail("EPERM", f"a copy that is {asked} of a map that is readable is refused"):
            space.copy(other, origins["readable"], PAGE, flags=ACCESS[asked][0])
    windows = {}
    for origin, asked in (("readable", "readable"), ("readable and writeable", "readable"), ("writeable", "writeable")):
        flags, read, write = access(session, asked)
        iova = space.copy(other, origins[origin], PAGE, flags=flags)
        windows[origin] = window = importer.area(cmb_buffer, iova, PAGE, PAGE)
        sentence = f"a copy that is {asked} of a map that is {origin} allows just that"
        areas.must_be_live(window, sentence, read=read, write=write)
    nvme.device.revoke()
    for origin, window in windows.items():
        areas.must_be_dead(window, f"a revoke kills a copy of a map that is {origin}")


@rows("importers.access-mode")
def test_the_access_mode_binds_no_importer(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """The access mode of a dma-buf's fd binds no importer: each may write, and a reset revokes it."""
    windows = {}
    for name, access_mode in {"read-only": os.O_RDONLY, "write-only": os.O_WRONLY}.items():
        buffer = nvme.device.export(REGISTERS, [DOORBELL_PAGE], open_flags=access_mode | os.O_CLOEXEC)
        seen = buffer.status_flags() & os.O_ACCMODE
        must(seen == access_mode, "the fd has the access mode that the export requested", seen)
        windows[name] = importer.attach(buffer)
        must_arrive(ring(nvme, windows[name], watch), f"an importer of a {name} fd may write")
    nvme.device.reset()
    nvme.start()
    for name, window in windows.items():
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a reset revokes a mapping of a {name} fd")

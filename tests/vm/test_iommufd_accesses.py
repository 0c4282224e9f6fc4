# SPDX-License-Identifier: GPL-2.0-only
"""Memory beside a dma-buf in an iommufd address space: accesses of kernel drivers, splits, and limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.types import Features
from harness.session import HOLD_MS, IOMMU_IOAS_MAP_READABLE, DmaBuf, Importer, Ioas, Nvme, Process, Session, UserMemory
from harness.session.access import limit_locked, locked, pins
from harness.session.races import Operation
from harness.session.repeat import repeat
from harness.witness import Watch

rows = rows_in("iommufd")

PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""
FAR = 1 << 39
"""An IOVA that nothing uses, above those that the agent chooses and below the limit of the IOMMU."""
NOBODY = 65534
"""Another user than root."""
BATCH = 65536 // 12
"""The runs of pages that iommufd maps at once (drivers/iommu/iommufd/pages.c, TEMP_MEMORY_LIMIT)."""
PIN = 65536 // 8
"""The pages that iommufd pins at once."""
WARM_UP, SPLITS = 16, 1024
"""Repetitions before memory is measured and meanwhile. ``SPLITS`` times a struct iopt_area, 136 bytes, exceed NOISE."""
NOISE = 64 << 10
"""Bytes by which the slab may grow."""


@pytest.fixture
def small_pages(session: Session, importer: Importer) -> tuple[Ioas, Importer]:
    """A new address space without huge pages, and the importer in it."""
    space = session.ioas()
    space.set_huge_pages(False)
    return space, session.importer_in(space, importer.kind.name)


@pytest.mark.needs("iommufd", "test_importer")
@rows("importers.iommufd-access")
def test_an_access_to_a_buffer_is_refused(session: Session, nvme: Nvme, cmb_buffer: DmaBuf) -> None:
    """A kernel driver neither pins nor copies a dma-buf, live or dead, and its attempt leaves nothing behind."""
    space = session.ioas()
    read_only = space.map_file(cmb_buffer, flags=IOMMU_IOAS_MAP_READABLE)
    unaligned = space.map_file(cmb_buffer, 0x10, 0x20, at=FAR - PAGE + 0x10)
    with must_fail("EADDRINUSE", "an access that pins pages does not enter an address space with an area of a part"):
        session.access(space)
    must(space.unmap(unaligned, 0x20) == 0x20, "an area of a part of a page is unmapped whole")

    space.map_file(cmb_buffer, at=FAR)
    memory = session.user_memory(1)
    memory.map(space, 0, PAGE, at=FAR - PAGE)
    access = session.access(space)
    with must_fail("EINVAL", "an address space with an access maps no part of a page"):
        space.map_file(cmb_buffer, 0x10, 0x20)
    unwritten = space.map_file(session.other_file("memfd"), 0, PAGE, flags=IOMMU_IOAS_MAP_READABLE)
    with must_fail("EPERM", "memory that is not WRITEABLE is not pinned for writing"):
        access.pin(unwritten, PAGE, write=True)
    must(access.pin(unwritten, PAGE) == bytes(PAGE), "memory that is not WRITEABLE is pinned for reading")
    before = pins(session.agent)
    for state in ("live", "dead"):
        for iova, length in ((FAR, PAGE), (FAR + PAGE, 2 * PAGE), (FAR - PAGE, 2 * PAGE)):
            with must_fail("EINVAL", f"a {state} area of a dma-buf is not pinned, also behind memory"):
                access.pin(iova, length)
            with must_fail("EINVAL", f"a {state} area of a dma-buf is not read, also behind memory"):
                access.read(iova, length)
            with must_fail("EINVAL", f"a {state} area of a dma-buf is not written, also behind memory"):
                access.write(iova, bytes(length))
        with must_fail("EPERM", f"a {state} area that is not WRITEABLE is not pinned for writing"):
            access.pin(read_only, PAGE, write=True)
        nvme.device.revoke()
    must(pins(session.agent) == before, "a refused pin leaves no page pinned", f"{before}, then {pins(session.agent)}")
    must(memory.read(0, PAGE) == bytes(PAGE), "a write that ends at a dma-buf is a write to the memory before it")
    access.unpin(unwritten, PAGE)
    must(space.unmap_all() == (2 + 2 * PAGES) * PAGE, "after a refused access every area is unmapped whole")
    must(not access.notifications(), "an unmap of a dma-buf notifies no access", access.events())


@pytest.mark.needs("test_importer")
@rows("importers.iommufd-access", "importers.iommufd-split")
@importers("iommufd+nvme")
def test_an_access_beside_a_buffer(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, small_pages: tuple[Ioas, Importer], watch: Watch
) -> None:
    """A revoke disturbs no access to the memory beside, and the unmap of that memory waits for the access."""
    space, importer = small_pages
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    window = importer.area(cmb_buffer, space.map_file(cmb_buffer, at=FAR))
    memory, iova, length = session.user_memory(3), FAR - 3 * PAGE, 3 * PAGE
    memory.map(space, 0, length, at=iova)
    access, before = session.access(space, delay_ms=HOLD_MS), pins(session.agent)
    for start, count in ((0, 2), (0, 2), (1, 2), (2, 1)):
        seen = access.pin(iova + start * PAGE, count * PAGE, write=start == 1)
        must(seen == memory.read(start * PAGE, count * PAGE), "the pages that a pin returns are those of its range")
    access.write(iova + PAGE, b"\xaa" * PAGE)
    must(access.pin(iova, length)[PAGE : 2 * PAGE] == b"\xaa" * PAGE, "pinned pages are those that an access writes")
    for start, count in ((0, 2), (0, 3)):
        access.unpin(iova + start * PAGE, count * PAGE)
    areas.must_be_live(window, "a dma-buf beside pinned memory is live")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf beside pinned memory")
    must(not access.notifications(), "a revoke notifies no access to the memory beside", access.events())

    with must_fail("EINVAL", "no part of pinned memory is unmapped"):
        space.unmap_as_type1(iova, PAGE)
    unmapping = session.start(space.unmap, iova, length + PAGES * PAGE)
    try:
        must(access.wait_notified(), "an unmap of pinned memory notifies the access", access.events())
        with must_fail("EINVAL", "memory that is being unmapped is not pinned again"):
            access.pin(iova, PAGE)
        with must_fail("EINVAL", "memory that is being unmapped is not read"):
            access.read(iova, PAGE)
        with must_fail("EBUSY", "no part of memory that is being unmapped is unmapped"):
            space.unmap_as_type1(iova, PAGE)
        must(not unmapping.done(), "an unmap waits until no page of its range is pinned")
    finally:
        access.release()
    unmapped = unmapping.result()
    must(unmapped == length + PAGES * PAGE, "pinned memory and a dead area are unmapped at once", unmapped)
    must([event.result for event in access.events()] == [1], "an unmap notifies an access once", access.events())
    left = pins(session.agent)
    must(left == before - 3, "an unmap leaves none of three pages pinned", f"{before}, then {left}")
    with must_fail("ENOENT", "memory that was unmapped is not read"):
        access.read(iova, PAGE)


@pytest.mark.needs("test_importer")
@rows("importers.iommufd-access")
@importers("iommufd+nvme")
def test_pinned_memory_is_copied(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A copy of pinned memory and of the dma-buf behind it reaches both, and stays when the access ends."""
    space = session.ioas(importer)
    other = space.sibling()
    memory, length = session.user_memory(2), 2 * PAGE
    memory.map(other, 0, length, at=FAR)
    other.map_file(cmb_buffer, at=FAR + length)
    access = session.access(other)
    access.pin(FAR + PAGE, PAGE)
    iova = space.copy(other, FAR, length + PAGES * PAGE)
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    window = importer.area(cmb_buffer, iova + length)
    areas.must_be_live(window, "a dma-buf that is copied with pinned memory is live")

    def check(when: str) -> None:
        seen = importer.dma_read(iova, length)
        must(seen == memory.read(0, length), f"a device reads a copy of memory {when}", seen[::PAGE].hex())

    check("while its origin is pinned")
    held = pins(session.agent)
    access.close()
    check("after the end of the access")
    must(other.unmap_all() == length + PAGES * PAGE, "the origin of a copy is unmapped whole")
    check("after the end of its origin")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf that was copied with pinned memory")
    must(space.unmap(iova, length) == length, "a copy of memory is unmapped whole")
    left = pins(session.agent)
    must(
        left == held - 2,
        "a page is pinned once for an access and a domain, until both are gone",
        f"{held}, then {left}",
    )


@rows("importers.iommufd-split")
@importers("iommufd+nvme")
def test_memory_is_split_beside_a_buffer(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, small_pages: tuple[Ioas, Importer], watch: Watch
) -> None:
    """VFIO_IOMMU_UNMAP_DMA unmaps a part of memory beside a dma-buf, and not one that ends in the dma-buf."""
    space, importer = small_pages
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    memory, iova, length = session.user_memory(PAGES), FAR - PAGES * PAGE, PAGES * PAGE
    alone = space.sibling()
    alone.set_huge_pages(False)
    for each, where in ((alone, "in no domain"), (space, "in a domain")):
        memory.map(each, 0, length, at=iova)
        each.map_file(cmb_buffer, at=FAR)
        with must_fail("EOPNOTSUPP", f"what ends in an area of a dma-buf {where} is not unmapped"):
            each.unmap_as_type1(FAR - PAGE, 2 * PAGE)
        with must_fail("EINVAL", f"a part of a page of memory {where} is not unmapped"):
            each.unmap_as_type1(iova, PAGE + 0x10)
        unmapped = each.unmap_as_type1(iova + PAGE, PAGE)
        must(unmapped == PAGE, f"a page amid an area of memory {where} is unmapped", unmapped)
    unmapped = alone.unmap_all()
    must(unmapped == 2 * PAGES * PAGE - PAGE, "the parts of a split area are unmapped whole", unmapped)
    window = importer.area(cmb_buffer, FAR)
    areas.must_be_live(window, "a dma-buf beside a split area is live")
    copied = space.copy(space, iova + 2 * PAGE, 2 * PAGE)
    for at, page, count in ((iova, 0, 1), (iova + 2 * PAGE, 2, 2), (copied, 2, 2)):
        seen = importer.dma_read(at, count * PAGE)
        must(seen == memory.read(page * PAGE, count * PAGE), "a device reads each part of a split area", seen.hex()[:8])
    mark = watch.mark()
    importer.dma_read(iova + PAGE, PAGE)
    must(watch.faults(mark), "a device does not reach the page that was cut out of an area")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf beside a split area")
    unmapped = space.unmap(iova, 2 * PAGES * PAGE)
    must(unmapped == 2 * PAGES * PAGE - PAGE, "the parts of a split area and a dead one are unmapped at once", unmapped)


def splitting(space: Ioas, iova: int) -> Operation:
    """Unmap a page by VFIO_IOMMU_UNMAP_DMA."""
    return Operation(space, "unmap_as_type1", {"iova": iova, "length": PAGE})


@pytest.mark.needs("iommufd", "test_importer")
@rows("importers.iommufd-split", "around.refusals")
def test_splits_leave_no_memory(session: Session, features: Features) -> None:
    """A split of an area of memory, whether it is made or refused, loses none of its structures."""
    space, memory, pinned = session.ioas(), session.user_memory(2), session.user_memory(2)
    space.set_huge_pages(False)
    pinned.map(space, 0, 2 * PAGE, at=FAR)
    session.access(space).pin(FAR, PAGE)

    def split(times: int) -> None:
        memory.split(space, times)
        found = repeat(session, splitting(space, FAR), times)
        must(found == ["EINVAL"], "no part of pinned memory is unmapped", found)

    split(WARM_UP)
    before = session.slab()
    split(SPLITS)
    grown = session.slab() - before
    if not features["kasan"]:  # KASAN keeps freed memory in quarantine
        must(grown < NOISE, "a split leaves no memory", f"{grown} bytes more after {SPLITS} splits and refusals")


@rows("importers.iommufd-lost-memory")
@importers("iommufd+nvme")
def test_memory_is_lost_beside_a_buffer(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """Memory that cannot be pinned is refused or keeps a device out, and changes nothing for the dma-bufs beside."""
    assert importer.device
    space, memory = session.ioas(importer), session.user_memory(8)
    memory.forbid(4 * PAGE)
    windows = [importer.area(cmb_buffer, space.map_file(cmb_buffer, at=FAR + page * 0x100000)) for page in range(3)]

    @contextmanager
    def refused(sentence: str) -> Iterator[None]:
        before = pins(session.agent)
        with must_fail("EFAULT", sentence):
            yield
        left = pins(session.agent)
        must(left == before, f"{sentence}, and no page of it stays pinned", f"{before}, then {left}")

    with refused("memory of which a half cannot be accessed is not mapped for a device"):
        memory.map(space, 0, 8 * PAGE)
    importer.device.detach()
    lost = memory.map(space, 0, 8 * PAGE, at=FAR + 0x1000000)
    with refused("memory of which a half cannot be accessed keeps a device out"):
        importer.device.attach()
    with refused("memory of which a half cannot be accessed is not pinned by an access"):
        session.access(space).pin(lost, 8 * PAGE)
    must(space.unmap(lost, 8 * PAGE) == 8 * PAGE, "memory that was never pinned is unmapped whole")
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    importer.device.attach()
    for window in windows:
        areas.must_be_live(window, "a device that was kept out once enters later, and reaches each area")
    nvme.device.reset()
    for window in windows:
        areas.must_be_dead(window, "a reset revokes each area that a device was once kept from")


@dataclass(frozen=True)
class Charging:
    """An address space, the importer in it, and the counters of a process that are charged for each page."""

    space: Ioas
    importer: Importer
    counters: dict[str, int]


@pytest.fixture(params=[pytest.param(0, id="user"), pytest.param(1, id="process")])
def charging(session: Session, importer: Importer, request: pytest.FixtureRequest) -> Charging:
    """A context with IOMMU_OPTION_RLIMIT_MODE of 0, which charges the user, or of 1, which charges the process too."""
    space = session.ioas(rlimit_mode=request.param)
    return Charging(space, session.importer_in(space, importer.kind.name), {"VmLck": request.param, "VmPin": 1})


@rows("importers.iommufd-limit-memory")
@importers("iommufd+nvme")
def test_a_buffer_is_not_locked_memory(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, charging: Charging, watch: Watch
) -> None:
    """RLIMIT_MEMLOCK limits the memory that a process maps and no dma-buf, whoever is charged."""
    space, importer, charged = charging.space, charging.importer, charging.counters
    domain, process = session.new_domain(importer), session.fork()
    limit_locked(process.inside, 2)
    theirs, memory = process.copy_of(space), session.user_memory(3, process=process)

    def must_be_charged(counters: dict[str, int], sentence: str) -> None:
        seen = locked(process.inside)
        must(seen == counters, sentence, seen)

    iova = memory.map(theirs, 0, PAGE)
    must_be_charged(charged, "a page of memory is charged as the context says")
    with must_fail("ENOMEM", "memory above RLIMIT_MEMLOCK is not mapped in two domains"):
        memory.map(theirs, 0, 3 * PAGE, at=FAR)
    mark = watch.mark()
    importer.dma_read(FAR, PAGE)
    must(watch.faults(mark), "a device does not reach memory that was refused")
    must_be_charged(charged, "memory that is not mapped is not charged")
    window = importer.area(cmb_buffer, theirs.map_file(process.copy_of(cmb_buffer)))
    must_be_charged(charged, "a dma-buf is not charged")
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    areas.must_be_live(window, "a dma-buf larger than RLIMIT_MEMLOCK is mapped")
    domain.enter()
    areas.must_be_live(window, "a dma-buf larger than RLIMIT_MEMLOCK is mapped in each domain")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf larger than RLIMIT_MEMLOCK")
    theirs.unmap(iova, PAGE)
    must_be_charged(dict.fromkeys(charged, 0), "an unmap of memory ends its charge")

    assert importer.device
    domain.close()
    importer.device.detach()
    iova = memory.map(theirs, 0, 3 * PAGE)
    with must_fail("ENOMEM", "memory above RLIMIT_MEMLOCK keeps a device out"):
        importer.device.attach()
    must_be_charged(dict.fromkeys(charged, 0), "memory that keeps a device out is not charged")
    theirs.unmap(iova, 3 * PAGE)
    importer.device.attach()


@pytest.mark.needs("iommufd")
@rows("importers.iommufd-change-process", "importers.iommufd-limit-memory")
def test_accounting_moves_without_a_buffer(session: Session, cmb_buffer: DmaBuf) -> None:
    """IOMMU_IOAS_CHANGE_PROCESS moves the charge for files, not above RLIMIT_MEMLOCK, until a dma-buf is mapped."""
    (engine, *_) = session.machine.config.with_role("dma-engine")
    space, memfd = session.ioas(session.open_device(engine.id)), session.other_file("memfd")
    process, poor, heir = (session.fork() for _ in range(3))
    for each, limit, uid in ((process, 2, 0), (poor, 0, 0), (heir, 2, NOBODY)):
        limit_locked(each.inside, limit, uid=uid)
    process.copy_of(space).map_file(process.copy_of(memfd), 0, PAGE)
    space.map_file(memfd, 0, PAGE, at=2 * FAR)  # charges no process: the agent has CAP_IPC_LOCK

    def must_pay(payer: Process, sentence: str) -> None:
        seen = {name: locked(each.inside)["VmPin"] for name, each in (("process", process), ("heir", heir))}
        must(seen == {"process": int(payer is process), "heir": int(payer is heir)}, sentence, seen)

    with must_fail("ENOMEM", "a process takes over no memory above its RLIMIT_MEMLOCK"):
        poor.copy_of(space).change_process()
    must_pay(process, "memory that is not taken over stays charged to its process")
    heir.copy_of(space).change_process()
    must_pay(heir, "memory that is taken over is charged to the other process")
    buffer = space.map_file(cmb_buffer, at=FAR)
    with must_fail("EINVAL", "memory beside a dma-buf is not taken over"):
        process.copy_of(space).change_process()
    must_pay(heir, "memory beside a dma-buf stays charged to its process")
    space.unmap(buffer, PAGES * PAGE)
    process.copy_of(space).change_process()
    must_pay(process, "after the unmap of the dma-buf the memory is taken over")


@rows("importers.iommufd-lost-memory")
@importers("iommufd+nvme")
def test_scattered_memory_beside_a_buffer(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """Memory of more than one batch is mapped beside a dma-buf; if its last page is lost, each batch is undone."""
    assert importer.device
    pages = BATCH + 32
    space, memory = session.ioas(importer), session.user_memory(pages, scattered=True)
    window = importer.area(cmb_buffer, space.map_file(cmb_buffer, at=FAR))
    before = pins(session.agent)
    iova = memory.map(space, 0, pages * PAGE, at=FAR + (1 << 30))
    for page in (0, BATCH - 1, BATCH, pages - 1):
        seen = importer.dma_read(iova + page * PAGE, PAGE)
        must(seen == memory.read(page * PAGE, PAGE), "a device reads the memory of each batch", seen[:4].hex())
    must(space.unmap(iova, pages * PAGE) == pages * PAGE, "memory of more than one batch is unmapped whole")

    memory.forbid((pages - 1) * PAGE)
    with must_fail("EFAULT", "memory whose last page cannot be accessed is not mapped"):
        memory.map(space, 0, pages * PAGE, at=iova)
    left = pins(session.agent)
    must(left == before, "a refused map leaves no page of any batch pinned", f"{before}, then {left}")
    importer.device.detach()
    before = pins(session.agent)
    memory.map(space, 0, pages * PAGE, at=iova)
    with must_fail("EFAULT", "memory whose last page cannot be accessed keeps a device out"):
        importer.device.attach()
    left = pins(session.agent)
    must(left == before, "a device that is kept out leaves no page of any batch pinned", f"{before}, then {left}")
    must(space.unmap(iova, pages * PAGE) == pages * PAGE, "memory that was never pinned is unmapped whole")
    importer.device.attach()
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    areas.must_be_live(window, "a dma-buf beside memory of more than one batch is live")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf beside memory of more than one batch")


LONG = 2 * BATCH + 32
"""Pages of scattered memory. The second batch ends within the second pin."""


@pytest.fixture(params=[pytest.param(False, id="memory"), pytest.param(True, id="file")])
def long_memory(session: Session, request: pytest.FixtureRequest) -> UserMemory:
    """``LONG`` pages of the agent, or of a memfd."""
    return session.user_memory(LONG, scattered=True, in_file=request.param)


# virtio-iommu allocates for each page that is not next to the one before: to fail each in turn takes minutes there.
@pytest.mark.machine("intel-iommu", "intel-iommu-pt", "lazy", "caching-mode", "scalable-mode")
@pytest.mark.needs("failslab")
@rows("importers.iommufd-lost-memory")
@importers("iommufd+nvme")
def test_a_starved_map_beside_a_buffer(areas: Areas, long_memory: UserMemory) -> None:
    """If any allocation of a map of memory fails, no page stays pinned, and none is unpinned twice."""
    session, importer, length = areas.session, areas.importer, LONG * PAGE
    space = session.ioas(importer)
    window = importer.area(areas.buffer, space.map_file(areas.buffer, at=FAR))
    before = pins(session.agent)
    *starved, last = long_memory.map_without_memory(space, length, at=FAR + (1 << 30))
    left = pins(session.agent)
    must(left == before, "a map without memory leaves no page pinned, and unpins none twice", f"{before}, then {left}")
    must(not last, "a map of which no allocation fails succeeds", last)
    must("ENOMEM" in starved and not {*starved} - {"ENOMEM", ""}, "a map without memory gives ENOMEM", starved)
    iova = long_memory.map(space, 0, length)
    for page in (0, BATCH - 1, BATCH, PIN - 1, PIN, 2 * BATCH, LONG - 1):
        seen = importer.dma_read(iova + page * PAGE, PAGE)
        wanted = long_memory.read(page * PAGE, PAGE)
        must(seen == wanted, "a device reads memory whose map was refused before", seen[:4].hex())
    must(space.unmap(iova, length) == length, "memory whose map was refused before is unmapped whole")
    areas.must_be_live(window, "a dma-buf beside memory whose map was refused is live")
    areas.exporter.reset()
    areas.must_be_dead(window, "a reset revokes a dma-buf beside memory whose map was refused")

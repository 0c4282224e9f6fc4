# SPDX-License-Identifier: GPL-2.0-only
"""The oracle of iommufd areas: which worlds pass as live and as dead, with stand-ins for guest and watch."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE
from harness.cases.must import ContractBroken
from harness.session import Device, DmaBuf, Importer, PageTableEntry, Session, Window
from harness.witness import DmaFault, Watch

BDF = "0000:02:00.0"
IOVA = 1 << 38
BAR_OFFSET = 3 * PAGE
"""Where the buffer begins in the BAR."""
PAGES = 2


@dataclass
class World:
    """A buffer of two pages, mapped at IOVA, and what its importer and its witnesses do."""

    readable: bool = True
    writeable: bool = True
    shift: int = 0
    """How far from its place a DMA arrives."""
    requester: str = BDF
    """The device in the fault of a refused DMA; none for a witness that sees nothing."""
    entries: list[PageTableEntry] | None = None
    memory: bytearray = field(default_factory=lambda: bytearray(range(256)) * (8 * PAGE // 256))
    seen: list[DmaFault] = field(default_factory=list)

    def _refuse(self, at: int, *, write: bool) -> None:
        if self.requester:
            self.seen.append(DmaFault(self.requester, IOVA + at, write, 5, "qemu"))

    def _place(self, at: int) -> int:
        return BAR_OFFSET + at + self.shift

    def read(self, *place: int) -> bytes:
        """Read by DMA (offset, length), or as the CPU (region, offset, length)."""
        if len(place) == 3:
            return bytes(self.memory[place[1] : place[1] + place[2]])
        at, length = place
        if not self.readable:
            self._refuse(at, write=False)
            return bytes(length)
        return bytes(self.memory[self._place(at) : self._place(at) + length])

    def write(self, *place: Any) -> None:
        """Write by DMA (offset, data), or as the CPU (region, offset, data)."""
        data = place[-1]
        if len(place) == 2 and not self.writeable:
            self._refuse(place[0], write=True)
            return
        start = place[1] if len(place) == 3 else self._place(place[0])
        self.memory[start : start + len(data)] = data

    def mark(self) -> int:
        return len(self.seen)

    def faults(self, mark: int) -> list[DmaFault]:
        return self.seen[mark:]


@dataclass
class Named:
    """A stand-in with the attributes and calls that Areas needs of everything else."""

    world: World
    bdf: str = BDF
    region: int = 2
    ranges: tuple[tuple[int, int]] = ((BAR_OFFSET, PAGES * PAGE),)
    start: int = 0
    length: int = PAGES * PAGE

    def iova(self) -> int:
        return IOVA

    def read(self, *place: int) -> bytes:
        return self.world.read(*place)

    def write(self, *place: Any) -> None:
        self.world.write(*place)

    def page_table_entries(self, *_: object) -> list[PageTableEntry] | None:
        return self.world.entries


def entry(page: int, *, offset: int | None = None, read: bool = True, write: bool = True) -> PageTableEntry:
    """Make the entry of a page of the buffer."""
    return PageTableEntry(
        IOVA + page * PAGE, BAR_OFFSET + (page if offset is None else offset) * PAGE, PAGE, read, write
    )


BOTH = [entry(0), entry(1)]


def areas(world: World) -> tuple[Areas, Window]:
    """Return the judge of a world, and the window that it judges."""
    named = Named(world)
    judge = Areas(
        cast(Session, named), cast(Importer, named), cast(Device, named), cast(DmaBuf, named), cast(Watch, world)
    )
    return judge, cast(Window, named)


def is_live(world: World, *, read: bool = True, write: bool = True) -> bool:
    judge, window = areas(world)
    try:
        judge.must_be_live(window, "it is live", read=read, write=write)
    except ContractBroken:
        return False
    return True


def is_dead(world: World) -> bool:
    judge, window = areas(world)
    try:
        judge.must_be_dead(window, "it is dead")
    except ContractBroken:
        return False
    return True


@pytest.mark.parametrize("entries", [None, BOTH])
def test_a_live_area(entries: list[PageTableEntry] | None) -> None:
    world = World(entries=entries)
    before = bytes(world.memory)
    assert is_live(world)
    assert bytes(world.memory) == before
    assert not is_dead(world)


@pytest.mark.parametrize(
    "world",
    [
        World(readable=False),
        World(writeable=False),
        World(shift=4),
        World(entries=[]),
        World(entries=BOTH[:1]),
        World(entries=[entry(0), entry(1, offset=0)]),
        World(entries=[entry(0), entry(1, write=False)]),
        World(entries=[PageTableEntry(IOVA, BAR_OFFSET, 2 * PAGE, readable=True, writeable=True)]),
    ],
    ids=repr,
)
def test_what_is_not_live(world: World) -> None:
    assert not is_live(world)


@pytest.mark.parametrize("entries", [None, [], [PageTableEntry(0, BAR_OFFSET, PAGE, readable=True, writeable=True)]])
def test_a_dead_area(entries: list[PageTableEntry] | None) -> None:
    world = World(readable=False, writeable=False, entries=entries)
    assert is_dead(world)
    assert not is_live(world)


@pytest.mark.parametrize(
    "world",
    [
        World(readable=False),
        World(writeable=False),
        World(readable=False, writeable=False, requester=""),
        World(readable=False, writeable=False, requester="0000:03:00.0"),
        World(readable=False, writeable=False, entries=BOTH[1:]),
    ],
    ids=repr,
)
def test_what_is_not_dead(world: World) -> None:
    assert not is_dead(world)


@pytest.mark.parametrize(("readable", "writeable"), [(True, False), (False, True), (True, True)])
def test_access_is_what_the_flags_say(readable: bool, writeable: bool) -> None:
    entries = [entry(page, read=readable, write=writeable) for page in range(PAGES)]
    for read, write in ((True, False), (False, True), (True, True)):
        live = is_live(World(readable=readable, writeable=writeable, entries=entries), read=read, write=write)
        assert live == ((read, write) == (readable, writeable))


def test_ranges_of_the_buffer() -> None:
    judge, _ = areas(World(entries=BOTH))
    judge.must_be_mapped([(0, PAGE), (PAGE, PAGE)], "both pages are mapped")
    with pytest.raises(ContractBroken, match="one page is mapped"):
        judge.must_be_mapped([(0, PAGE)], "one page is mapped")

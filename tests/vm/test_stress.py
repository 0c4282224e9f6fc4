# SPDX-License-Identifier: GPL-2.0-only
"""Races, suite ``stress``: several threads of user space make calls on one device at the same time.

Each call ends as it may on its own, no checker reports anything, and nothing hangs. After a race the device works as
before: a mapping made before a revoke is dead, and a new mapping is live.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from harness.cases.constants import PCI_D0, SCATTERLIST, UNDER_TEST, PCI_D3hot
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach, Features
from harness.session import Attachment, Device, DmaBuf, Importer, Nvme, Session, Window
from harness.session.handle import Handle
from harness.session.leaks import leaks, summarize
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.session.races import Operation, Operations, RaceResult, attach_operation, export_operation, race
from harness.witness import Watch
from harness.witness.leaks import KnownLeak, beyond

rows = rows_in("stress")

ROUNDS, STEPS = 6, 60
"""Rounds of a race, and steps of each thread in a round."""
CLOSES = 20
"""Rounds of the races that close the device. Each has one step, because a device is closed once."""
SLOW_MS = 3
RARE, USUAL = 1, 40
"""Weights of slow calls, which take a tenth of a second, and of fast calls."""
KNOWN_LEAK = KnownLeak(SCATTERLIST, frozenset({"sg_kmalloc", "dma_buf_phys_vec_to_sgt"}))
"""One object for each unmap: test_importer_rules::test_unmapping_gives_the_memory_back is about this leak."""
MAPS = ("Attachment.map", "Importer.attach")
"""The calls that map, each at most once."""


# The calls of a thread, and the outcomes that each may have.


def resets(device: Device) -> Operations:
    """Revoke and un-revoke in each way that a user of the device has. A reset may find another one running."""
    return [
        Operation(device, "set_memory", {"on": False}, weight=USUAL),
        Operation(device, "set_memory", {"on": True}, weight=2 * USUAL),
        Operation(device, "set_power_state", {"state": PCI_D3hot}, weight=RARE),
        Operation(device, "set_power_state", {"state": PCI_D0}, weight=RARE),
        Operation(device, "reset", may=("EAGAIN",), weight=RARE),
        Operation(device, "flr", weight=RARE),
    ]


def hot_resets(device: Device) -> Operations:
    """Reset the whole slot. A hot reset gives up if another call holds a lock that it needs."""
    return [
        Operation(device, "hot_reset", may=("EAGAIN", "EBUSY"), weight=RARE),
        Operation(device, "command", weight=USUAL // 4),
    ]


def exports(device: Device) -> Operations:
    """Export. Once the device is closed its fd number is free, or belongs to another file."""
    return [export_operation(device, REGISTERS, [DOORBELL_PAGE], may=("EBADF", "ENOTTY"))]


def closes(*handles: Handle) -> Operations:
    """Close, in any order."""
    return [Operation(each, "close") for each in handles]


def imports(importer: Importer, buffer: DmaBuf) -> Operations:
    """Import. The guest closes some of the open windows."""
    return [attach_operation(importer, buffer, may=("ENODEV",))]


def maps(attachment: Attachment) -> Operations:
    """Map and unmap. Another thread may have done either before."""
    return [Operation(attachment, "map", may=("ENODEV", "EBUSY")), Operation(attachment, "unmap", may=("EBADFD",))]


@dataclass(frozen=True)
class Arena:
    """The session in which threads race, and the rules for the device after a race."""

    session: Session
    importers: list[Importer]
    """One of iommufd, and rxe if the kernel has it."""
    watch: Watch
    rng: Random
    sees_leaks: bool
    """Whether the kernel has kmemleak."""
    results: list[RaceResult] = field(default_factory=list)
    """How each race ended."""

    def race(self, *threads: Operations, steps: int = STEPS) -> RaceResult:
        """Run the threads. Each call must end in an outcome that its operation allows."""
        result = race(self.session, threads, str(self.rng.random()), steps)
        self.results.append(result)
        must(not result.wrong, "each call of a race ends as it may on its own", f"{result.wrong}; all: {result}")
        return result

    def must_survive(self, nvme: Nvme, buffer: DmaBuf, attachment: Attachment, *others: Operations) -> None:
        """Import ``buffer`` and map it by ``attachment`` while ``others`` run. State that the device works after it."""
        result = self.race(*(imports(each, buffer) for each in self.importers), maps(attachment), *others)
        self.must_be_sound(nvme, buffer, stale=result.held_of(Window))
        must(not attachment.mapped(), "after a race a revoke leaves no mapping behind", attachment.notifications())

    def must_be_sound(self, nvme: Nvme, buffer: DmaBuf, stale: Sequence[Window] = ()) -> None:
        """State that after one more revoke and un-revoke a new mapping is live and each ``stale`` one is dead."""
        nvme.device.set_power_state(PCI_D0)
        nvme.device.set_memory(False)
        nvme.device.set_memory(True)
        nvme.start()
        for window in stale:
            result = ring_once(nvme.queue_identify(), window, self.watch)
            must_be_blocked(result, "a revoke kills each mapping that a race has left")
            window.close()
        self.must_be_live(nvme, buffer)

    def must_be_live(self, nvme: Nvme, buffer: DmaBuf) -> None:
        """State that a new mapping reaches the started controller."""
        with self.importers[0].attach(buffer) as window:
            must_arrive(ring(nvme, window, self.watch), "after a race a new mapping is live")

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        """State that the block frees what it allocates, if the kernel has kmemleak."""
        if not self.sees_leaks:
            yield
            return
        with leaks(self.session) as leaked:
            yield
            self.session.reset()
        maps = sum(result.outcomes.get(call, {}).get("ok", 0) for result in self.results for call in MAPS)
        new = beyond(leaked, KNOWN_LEAK, maps)
        must(not new, "a race leaks no memory", summarize(new))


@pytest.fixture
def arena(request: pytest.FixtureRequest, session: Session, importer: Importer, watch: Watch, seed: int) -> Arena:
    """An arena whose random numbers depend on the run's seed and the case."""
    features: Features = request.getfixturevalue("features")
    both = [importer, session.importer("rxe")] if features["rxe"] else [importer]
    return Arena(session, both, watch, Random(f"{seed} {request.node.name}"), features["kmemleak"])


@rows("lifecycle.last-reference", "lifecycle.reset", "lifecycle.command-mem")
@importers("iommufd+nvme")
def test_close_against_reset(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Buffers may be exported and closed while a reset runs, even if a slow importer delays it."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        slow = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            result = arena.race(resets(nvme.device), maps(slow), exports(nvme.device), exports(nvme.device))
            arena.must_be_sound(nvme, buffer)
            for handle in result.held:
                handle.close()


@rows("lifecycle.command-mem", "lifecycle.power", "lifecycle.reset", "lifecycle.flr")
@importers("iommufd+nvme")
def test_map_against_revoke(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Several importers, one of them slow, may map and unmap while the buffer is revoked and un-revoked."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        attachment = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, resets(nvme.device))


@rows("lifecycle.hot-reset")
@importers("iommufd+nvme")
def test_importers_against_hot_reset(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Several importers, one of them slow, may map and unmap while the slot is reset."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        attachment = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, hot_resets(nvme.device), exports(nvme.device))


@rows("lifecycle.close", "lifecycle.last-reference")
@importers("iommufd+nvme")
def test_export_against_close(arena: Arena, session: Session) -> None:
    """A device may be closed while it exports, and while its buffers are mapped and closed."""
    with arena.nothing_lost():
        for _ in range(CLOSES):
            device = session.open_device(UNDER_TEST)
            buffer, *going = (device.export(REGISTERS, [DOORBELL_PAGE]) for _ in range(4))
            importing = [imports(each, buffer) for each in arena.importers]
            result = arena.race(exports(device), closes(device), closes(*going), *importing, steps=1)
            for each in (buffer, *result.held_of(DmaBuf)):
                with must_fail("ENODEV", "a buffer of a closed device cannot be mapped, however late it was exported"):
                    arena.importers[0].attach(each)
            session.reset()
        nvme = session.open_nvme()
        arena.must_be_sound(nvme, nvme.export_doorbells())


@pytest.mark.machine("multifunction")
@rows("lifecycle.hot-reset")
@importers("iommufd+nvme")
def test_functions_reset_their_slot(arena: Arena, session: Session, nvme: Nvme, attach: Attach) -> None:
    """Two users may each reset the slot of their function while both functions are exported and mapped."""
    sibling = session.open_nvme("nvme0f1", same_ioas_as=nvme.device)
    with arena.nothing_lost():
        buffer, sibling_buffer = nvme.export_doorbells(), sibling.export_doorbells()
        attachment, sibling_attachment = attach(buffer), attach(sibling_buffer)
        both = (hot_resets(nvme.device), hot_resets(sibling.device))
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, *both, maps(sibling_attachment), exports(sibling.device))
            sibling.start()
            arena.must_be_live(sibling, sibling_buffer)
            arena.must_be_sound(sibling, sibling_buffer)

# SPDX-License-Identifier: GPL-2.0-only
"""Races, suite ``stress``: what the kernel must hold whatever several threads ask of it at the same time.

No call may end otherwise than it might without the others, no checker may complain, nothing may get stuck; and once all
is quiet the device is as good as new: what was mapped before a revoke is dead, and a new mapping is live.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import Attachment, Device, DmaBuf, Importer, Nvme, Session, Window
from harness.session.handle import Handle
from harness.session.leaks import leaks, summarize
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.session.races import Operation, Operations, RaceResult, attach_operation, export_operation, race
from harness.witness import Watch

Attach = Callable[..., Attachment]

ROUNDS, STEPS = 6, 60
"""Rounds of a race, each of so many steps, after which all must be sound."""
CLOSES = 20
"""Rounds of a race that has but one step, for a device is closed once."""
UNDER_TEST = "nvme0"
SLOW_MS = 3
D0, D3HOT = 0, 3
RARE, USUAL = 1, 40
"""How often a thread makes a call that takes a tenth of a second, and one that does not."""
KNOWN_LEAK = "dma_buf_phys_vec_to_sgt"
"""test_importer_rules::test_unmapping_gives_the_memory_back is about that one."""


def rows(*names: str) -> pytest.MarkDecorator:
    """The rows of section 2 of the contract that a race is about."""
    return pytest.mark.contract("stress", *(f"lifecycle.{name}" for name in names))


by_iommufd = pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)


# What a thread does, and how it may end.


def resets(device: Device) -> Operations:
    """Revoke and un-revoke, in each way that the device's user has. A reset may find another under way."""
    return [
        Operation(device, "set_memory", {"on": False}, weight=USUAL),
        Operation(device, "set_memory", {"on": True}, weight=2 * USUAL),
        Operation(device, "set_power_state", {"state": D3HOT}, weight=RARE),
        Operation(device, "set_power_state", {"state": D0}, weight=RARE),
        Operation(device, "reset", may=("EAGAIN",), weight=RARE),
        Operation(device, "flr", weight=RARE),
    ]


def hot_resets(device: Device) -> Operations:
    """Resets of the whole slot, which give up where they find somebody at work."""
    return [
        Operation(device, "hot_reset", may=("EAGAIN", "EBUSY"), weight=RARE),
        Operation(device, "command", weight=USUAL // 4),
    ]


def exports(device: Device) -> Operations:
    """Export, and close what was exported. Once the device is closed its fd's number is nobody's, or another file's."""
    return [export_operation(device, REGISTERS, [DOORBELL_PAGE], may=("EBADF", "ENOTTY"))]


def closes(*handles: Handle) -> Operations:
    """Close, in any order."""
    return [Operation(each, "close") for each in handles]


def imports(importer: Importer, buffer: DmaBuf) -> Operations:
    """Import, and let go."""
    return [attach_operation(importer, buffer, may=("ENODEV",))]


def maps(attachment: Attachment) -> Operations:
    """Map and unmap, which may be done already."""
    return [Operation(attachment, "map", may=("ENODEV", "EBUSY")), Operation(attachment, "unmap", may=("EBADFD",))]


@dataclass(frozen=True)
class Arena:
    """Where threads race, and what must hold there. ``importers``: iommufd's, and rxe if the kernel has it."""

    session: Session
    importers: list[Importer]
    watch: Watch
    rng: Random
    sees_leaks: bool

    def race(self, *threads: Operations, steps: int = STEPS) -> RaceResult:
        """Run the threads; no call may end in an outcome that its operation does not allow."""
        result = race(self.session, threads, str(self.rng.random()), steps)
        must(not result.wrong, "no call ends otherwise than it may", f"{result.wrong}; all: {result}")
        return result

    def must_survive(self, nvme: Nvme, buffer: DmaBuf, attachment: Attachment, *others: Operations) -> None:
        """Let ``buffer`` be imported, and mapped by ``attachment``, while ``others`` go on; then all must be sound."""
        result = self.race(*(imports(each, buffer) for each in self.importers), maps(attachment), *others)
        self.must_be_sound(nvme, buffer, stale=result.held_of(Window))
        must(
            not attachment.mapped(),
            "a revoke leaves no mapping behind, whatever it raced with",
            attachment.notifications(),
        )

    def must_be_sound(self, nvme: Nvme, buffer: DmaBuf, stale: Sequence[Window] = ()) -> None:
        """Revoked and brought back once more, the device answers to a new mapping, and to none from before."""
        nvme.device.set_power_state(D0)
        nvme.device.set_memory(False)
        nvme.device.set_memory(True)
        nvme.start()
        for window in stale:
            result = ring_once(nvme.queue_identify(), window, self.watch)
            must_be_blocked(result, "what a race has left mapped is dead after a revoke")
            window.close()
        self.must_be_live(nvme, buffer)

    def must_be_live(self, nvme: Nvme, buffer: DmaBuf) -> None:
        """The controller, started, answers to a new mapping."""
        with self.importers[0].attach(buffer) as window:
            must_arrive(ring(nvme, window, self.watch), "after a race a new mapping is live")

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        """What was allocated in the block is given back at its end, as far as the kernel can tell."""
        if not self.sees_leaks:
            yield
            return
        with leaks(self.session) as lost:
            yield
            self.session.reset()
        new = [leak for leak in lost if KNOWN_LEAK not in leak.frames]
        must(not new, "a race loses no memory", summarize(new))


@pytest.fixture
def arena(request: pytest.FixtureRequest, session: Session, importer: Importer, watch: Watch, seed: int) -> Arena:
    """With a random generator seeded by the case's name."""
    features: Mapping[str, bool] = request.getfixturevalue("features")
    importers = [importer, session.importer("rxe")] if features["rxe"] else [importer]
    return Arena(session, importers, watch, Random(f"{seed} {request.node.name}"), features["kmemleak"])


@rows("last-reference", "reset", "command-mem")
@by_iommufd
def test_close_against_reset(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Buffers come and go while their device is reset, and while a slow importer holds the reset up."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        slow = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            result = arena.race(resets(nvme.device), maps(slow), exports(nvme.device), exports(nvme.device))
            arena.must_be_sound(nvme, buffer)
            for handle in result.held:
                handle.close()


@rows("command-mem", "power", "reset", "flr")
@by_iommufd
def test_map_against_revoke(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Importers map and unmap while the buffer is revoked and brought back; one of them lets go late."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        attachment = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, resets(nvme.device))


@rows("hot-reset")
@by_iommufd
def test_importers_against_hot_reset(arena: Arena, nvme: Nvme, attach: Attach) -> None:
    """Several importers map and unmap while the slot is reset; one of them lets go late."""
    with arena.nothing_lost():
        buffer = nvme.export_doorbells()
        attachment = attach(buffer, delay_ms=SLOW_MS)
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, hot_resets(nvme.device), exports(nvme.device))


@rows("close", "last-reference")
@by_iommufd
def test_export_against_close(arena: Arena, session: Session) -> None:
    """A device is closed while it exports, and while what it has exported is mapped and closed."""
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
@rows("hot-reset")
@by_iommufd
def test_functions_reset_their_slot(arena: Arena, session: Session, nvme: Nvme, attach: Attach) -> None:
    """Two functions are reset with their slot, each by its own user, while both are exported and mapped."""
    sibling = session.open_nvme("nvme0f1", same_ioas_as=nvme.device)
    with arena.nothing_lost():
        buffer, other = nvme.export_doorbells(), sibling.export_doorbells()
        attachment, beside = attach(buffer), attach(other)
        both = (hot_resets(nvme.device), hot_resets(sibling.device))
        for _ in range(ROUNDS):
            arena.must_survive(nvme, buffer, attachment, *both, maps(beside), exports(sibling.device))
            sibling.start()
            arena.must_be_live(sibling, other)
            arena.must_be_sound(sibling, other)

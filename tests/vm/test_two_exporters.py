# SPDX-License-Identifier: GPL-2.0-only
"""Two devices export, and one importer imports from both: a revoke of one device's buffers leaves the other's alone."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Importer, Nvme, Session
from harness.witness import Watch

rows = rows_in("lifecycle")

FEW = ("hot-reset", "close")
"""The triggers for importers whose DMA takes 0.1 s."""
FAR = 1 << 39
"""An IOVA that nothing uses, above those that the agent chooses."""


@pytest.fixture
def other(session: Session) -> Nvme:
    """Another controller that exports, in a group of its own."""
    return session.open_nvme("nvme1")


@pytest.mark.needs("dma-api", "test_importer")
@rows("lifecycle.other-device")
@importers("iommufd+edu", "rxe", "dma-api+edu")
def test_another_device_is_left_alone(
    nvme: Nvme, other: Nvme, importer: Importer, attach: Attach, watch: Watch
) -> None:
    """A revoke and an un-revoke of one device's buffer neither cut nor notify another's that the importer also has."""
    going, staying = (each.export_doorbells() for each in (nvme, other))
    attached, left_alone = attach(going), attach(staying)
    left_alone.map()
    dead, live = importer.attach(going), importer.attach(staying)
    queued = nvme.queue_identify()
    must_arrive(ring_once(nvme.queue_identify(), dead, watch), "a buffer of the first device is live")
    for name in FEW if importer.kind.transfer_seconds >= 0.1 else TRIGGERS:
        attached.map()
        trigger = TRIGGERS[name]
        trigger.act(nvme.device)
        must(not attached.mapped(), f"{name} revokes its own device's buffer", attached.events())
        must_arrive(ring(other, live, watch), f"{name} cuts no mapping of another device's buffer")
        if trigger.undo:
            trigger.undo(nvme.device)
        alone = left_alone.mapped() and not left_alone.notifications()
        must(alone, f"{name} and its end notify no importer of another device's buffer", left_alone.events())
    must_be_blocked(ring_once(queued, dead, watch), "the mapping of the first device's buffer is dead")
    must_arrive(ring(other, importer.attach(staying), watch), "another device's buffer can be mapped again")


@rows("lifecycle.other-device", "importers.iommufd-copy-parts", "importers.iommufd-unmap-parts")
@importers("iommufd+edu")
def test_areas_of_two_devices(session: Session, nvme: Nvme, other: Nvme, importer: Importer, watch: Watch) -> None:
    """Of two adjacent areas that two devices export, a revoke of one is no revoke of the other, nor of its copy."""
    going, staying = (each.export_doorbells() for each in (nvme, other))
    space = session.ioas(importer)
    space.map_file(going, at=FAR)
    space.map_file(staying, at=FAR + PAGE)
    iova = space.copy(space, FAR, 2 * PAGE)
    windows = [(importer.area(going, at), importer.area(staying, at + PAGE)) for at in (FAR, iova)]
    for dead, _ in windows:
        must_arrive(ring(nvme, dead, watch), "before the revoke the area and its copy are live")
    nvme.device.set_memory(False)
    queued = nvme.queue_identify()
    for dead, live in windows:
        must_be_blocked(ring_once(queued, dead, watch), "a revoke cuts the area and its copy")
        must_arrive(ring(other, live, watch), "a revoke cuts neither the area beside it nor the copy of that")
    again = space.copy(space, FAR, 2 * PAGE)
    must_be_blocked(ring_once(queued, importer.area(going, again), watch), "a copy of a dead area is dead")
    result = ring(other, importer.area(staying, again + PAGE), watch)
    must_arrive(result, "a copy of the live area beside it is live")
    with must_fail("ENODEV", "the buffer of the revoked device cannot be mapped"):
        space.map_file(going)
    unmapped = space.unmap(FAR, 2 * PAGE)
    must(unmapped == 2 * PAGE, "areas of two devices are unmapped at once, the dead and the live one", unmapped)
    must_be_blocked(ring_once(other.queue_identify(), windows[0][1], watch), "the unmap cuts the live area")
    must_arrive(ring(other, windows[1][1], watch), "a copy outlives the area of which it was made")

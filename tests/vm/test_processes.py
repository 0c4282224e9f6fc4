# SPDX-License-Identifier: GPL-2.0-only
"""Several processes: who holds which fd, who exports and imports, and who is killed."""

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.errors import ProcessEnded
from harness.session import HOLD_MS, DmaBuf, Importer, Nvme, Session
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("processes")

BLOCKED_S = 0.2
"""Seconds for which a call that must wait is observed."""


@pytest.mark.needs("awaited_revoke")
@rows("lifecycle.killed", "lifecycle.waits")
@pytest.mark.parametrize("patience", ["fence", "importer"])
@importers("dma-api+edu")
def test_a_kill_does_not_end_the_wait(
    session: Session, nvme: Nvme, importer: Importer, patience: str, watch: Watch
) -> None:
    """A process that is killed while its reset waits stays until the importer is done; then the reset goes on."""
    buffer = nvme.export_doorbells()
    holder = session.attach(buffer, device_id="edu0", delay_ms=HOLD_MS if patience == "importer" else 0)
    holder.map()
    if patience == "fence":
        holder.fence("bookkeep")
    window = importer.window(buffer, holder)
    queued = nvme.queue_identify()
    process = session.fork()
    reset = session.start(process.copy_of(nvme.device).reset)
    try:
        must(holder.wait_notified(), "a reset notifies the importer", holder.events())
        process.kill()
        waits = not process.ended(BLOCKED_S / session.machine.slowdown)
        must(waits, f"a killed process waits for the {patience} as a living one does", holder.events())
        if patience == "importer":
            result = ring_once(queued, window, watch)
            must_arrive(result, "the reset of a killed process touches nothing before the importer has unmapped")
        with must_fail("ENODEV", "the reset of a killed process stays pending"):
            session.attach(buffer, device_id="edu0")
    finally:
        holder.signal() if patience == "fence" else holder.release()
        ended = process.ended()
    must(ended, f"a killed process ends as soon as no {patience} holds it up")
    with pytest.raises(ProcessEnded):
        reset.result()
    nvme.start()
    must_be_blocked(ring_once(queued, window, watch), "the reset of a killed process revokes")
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "after the reset of a killed process the same fd can be mapped")


@rows("lifecycle.last-close")
@importers("iommufd+nvme")
def test_only_the_last_close_revokes(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """An export is live until the last fd of its device is closed: by dup, by fork, or in flight between processes."""
    device, window = nvme.device, importer.attach(buffer)
    queued = nvme.queue_identify()
    duplicate, heir, receiver = device.duplicate(), session.fork(), session.fork()
    heir.copy_of(duplicate).close()
    for each in (duplicate, device):
        receiver.copy_of(each).close()
    receiver.send(device)
    session.open_unbound(UNDER_TEST).close()
    must_arrive(ring_once(queued, window, watch), "the close of an unbound fd of the device revokes nothing")
    for name, close in (("original", device.close), ("duplicate", duplicate.close), ("forked", heir.close)):
        close()
        result = ring_once(queued, window, watch)
        must_arrive(result, f"the close of the {name} fd, which is not the last one, revokes nothing")
    receiver.kill()
    must(receiver.ended(), "a killed process ends")
    must_be_blocked(ring_once(queued, window, watch), "the close of the last fd, which is in flight, revokes")
    with must_fail("ENODEV", "after the close of the last fd the buffer cannot be mapped"):
        importer.attach(buffer)


@pytest.mark.needs("vfio_group", "vfio_container")
@rows("lifecycle.last-close")
@importers("rxe")
def test_only_the_last_fd_of_a_group_revokes(session: Session, importer: Importer, watch: Watch) -> None:
    """A device that is opened twice through its group revokes when its second fd is closed."""
    nvme = session.open_nvme(via="group")
    queued = nvme.queue_identify()
    again = nvme.device.open_again()
    buffer = nvme.export_doorbells()
    window = importer.attach(buffer)
    nvme.device.open_again().close()
    must_arrive(ring_once(queued, window, watch), "the close of one of three fds revokes nothing")
    nvme.device.close()
    must_arrive(
        ring_once(queued, window, watch), "the close of the fd that exported, not the last one, revokes nothing"
    )
    importer.attach(buffer).close()
    again.close()
    must_be_blocked(ring_once(queued, window, watch), "the close of the last fd revokes")
    with must_fail("ENODEV", "after the close of the last fd the buffer cannot be mapped"):
        importer.attach(buffer)


@rows("lifecycle.processes")
@importers("iommufd+nvme", "rxe")
def test_the_importing_process_is_killed(
    session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A killed importer leaves neither mapping nor reference, delays no revoke, and disturbs no other importer."""
    buffer = nvme.export_doorbells()
    other = attach(buffer)
    other.map()
    session.release_device(importer.device_id)  # so that the forked process has no copy of its fds
    before = buffer.fdinfo()["count"], session.page_table_entries(importer, nvme.device, buffer)
    references = session.references.read()
    process = session.fork()
    theirs = session.forked_importer(process, importer.kind.name)
    window = theirs.attach(process.copy_of(buffer))
    must_arrive(ring(nvme, window, watch), "a buffer can be mapped by another process than the exporter's")
    process.kill()
    must(process.ended(), "an importing process that is killed ends")
    left = buffer.fdinfo()["count"], session.page_table_entries(importer, nvme.device, buffer)
    must(left == before, "a killed importer leaves no reference and no page table entry", f"{before}, then {left}")
    kept = session.references.left_since(references)
    must(not kept, "a killed importer leaves no reference", "; ".join(kept))
    must(other.mapped() and not other.notifications(), "a killed importer disturbs no other", other.events())
    nvme.device.reset()
    nvme.start()
    result = ring(nvme, session.importer(importer.kind.name).attach(buffer), watch)
    must_arrive(result, "after the kill and a reset another process can map the same fd with the same device")


@rows("lifecycle.processes", "lifecycle.close")
@importers("iommufd+nvme", "rxe")
def test_the_exporting_process_is_killed(session: Session, importer: Importer, watch: Watch) -> None:
    """When the exporter's process is killed, buffers that other processes hold are revoked for good, and stay valid."""
    process = session.fork()
    nvme = session.open_nvme(process=process)
    buffer = process.take(nvme.export_doorbells())
    window = importer.attach(buffer)
    must_arrive(ring(nvme, window, watch), "a buffer can be mapped by another process than the exporter's")
    queued = nvme.queue_identify()
    process.kill()
    must(process.ended(), "an exporting process that is killed ends")
    must_be_blocked(ring_once(queued, window, watch), "the kill of the exporter revokes each mapping")
    with must_fail("ENODEV", "after the kill of the exporter the buffer cannot be mapped"):
        importer.attach(buffer)
    must(buffer.size() == PAGE, "after the kill of the exporter the fd stays valid", buffer.size())
    again = session.open_nvme()
    must_be_blocked(
        ring_once(queued, window, watch), "a mapping of a killed exporter does not reach the reopened device"
    )
    result = ring(again, importer.attach(again.device.export(REGISTERS, buffer.ranges)), watch)
    must_arrive(result, "after the kill of the exporter another process can export the device")

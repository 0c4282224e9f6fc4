# SPDX-License-Identifier: GPL-2.0-only
"""Revoke: an old mapping never reaches a device that was reset, disabled or closed."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_during, ring_once
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("revoke")


@rows("lifecycle.reset")
def test_reset_revokes(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """VFIO_DEVICE_RESET revokes every mapping for good, and the same fd can be mapped again."""
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before the reset the mapping is live")

    nvme.device.reset()
    nvme.start()
    must_be_blocked(ring(nvme, old, watch), "a mapping made before VFIO_DEVICE_RESET no longer reaches the device")

    new = importer.attach(buffer)
    must_arrive(ring(nvme, new, watch), "after VFIO_DEVICE_RESET a new mapping of the same fd is live")
    must_be_blocked(ring(nvme, old, watch), "a mapping made before VFIO_DEVICE_RESET stays dead next to a new one")


@rows("lifecycle.reset")
def test_reset_revokes_while_ringing(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """While VFIO_DEVICE_RESET runs, each ring arrives or is refused, and none arrives after a refused one."""
    window = importer.attach(buffer)
    queued = nvme.queue_identify()
    series = ring_during(session.start(nvme.device.reset), queued, window, watch)
    must(series.orderly, "until the revoke a ring arrives, and from then on every ring is refused", series)
    must_be_blocked(series.rings[-1], "VFIO_DEVICE_RESET does not return before the mapping is dead")


STORM_WRITES = 64
"""RDMA WRITEs that arrive before the reset."""
MARKER_QUEUE = 7
"""The queue whose doorbell the CPU rings after the reset, so that the host's trace has the moment."""


@rows("lifecycle.reset", "importers.live")
@importers("rxe")
def test_reset_revokes_at_full_rate(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An importer that writes without a pause writes until a reset revokes, and never after the reset returned."""
    window = importer.attach(buffer)
    queued = nvme.queue_identify()
    mark = watch.mark()
    storm = importer.storm(window, buffer.offset_of(queued.doorbell), queued.tail)
    storm.wait_written(STORM_WRITES)
    nvme.reset_and_ring(MARKER_QUEUE)
    written, status = storm.outcome()
    bells = [bell.qid for bell in watch.doorbells(mark) if bell.queue == "sq"]
    must(MARKER_QUEUE in bells, "the host sees the write that follows the reset", bells[-8:])
    end = bells.index(MARKER_QUEUE)
    must(status == "IBV_WC_REM_ACCESS_ERR", "a reset revokes an MR that is in use", status or "no write was refused")
    seen = f"{end} writes before and {len(bells) - end - 1} after it, {written} reported as done"
    must(end >= STORM_WRITES, "before the reset an importer's writes arrive", seen)
    must(len(bells) == end + 1, "after the reset has returned no write arrives", seen)
    must(end == written, "each write that was reported as done arrived, and no other", seen)


@rows("lifecycle.command-mem")
def test_memory_disable_revokes(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """Clearing COMMAND.MEM revokes every mapping for good; once it is set the same fd can be mapped again."""
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before COMMAND.MEM is cleared the mapping is live")

    nvme.device.set_memory(False)
    queued = nvme.queue_identify()
    result = ring(nvme, old, watch, queued=queued)
    must_be_blocked(result, "while COMMAND.MEM is clear no mapping reaches the device")
    with must_fail("ENODEV", "while COMMAND.MEM is clear the buffer cannot be mapped"):
        importer.attach(buffer)

    nvme.device.set_memory(True)
    result = ring(nvme, old, watch, queued=queued)
    must_be_blocked(result, "a mapping made before COMMAND.MEM was cleared stays dead once it is set")
    result = ring(nvme, importer.attach(buffer), watch, queued=queued)
    must_arrive(result, "once COMMAND.MEM is set a new mapping of the same fd is live")


@rows("lifecycle.close")
def test_close_revokes(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """The device's last close revokes for ever: old mappings are dead, and the fd cannot be mapped again."""
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before the close the mapping is live")

    queued = nvme.queue_identify()
    nvme.device.close()
    must_be_blocked(ring_once(queued, old, watch), "after the device's last close no mapping reaches it")
    with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
        importer.attach(buffer)
    must(buffer.size() == PAGE, "after the device's last close the fd stays valid", buffer.size())

    reopened = session.open_nvme()
    must_be_blocked(ring(reopened, old, watch), "a mapping of a closed device does not reach the reopened device")
    with must_fail("ENODEV", "a buffer of a closed device stays dead when the device is reopened"):
        importer.attach(buffer)


@rows("importers.page-table")
@pytest.mark.needs("iommu_debugfs")
@importers("iommufd+nvme", "rxe", "dma-api+edu")
def test_page_table_is_cut(session: Session, nvme: Nvme, importer: Importer) -> None:
    """The IOMMU's page table has entries for the buffer exactly as long as a mapping is live."""
    device, buffer = nvme.device, nvme.device.export(REGISTERS, [(0, 3 * PAGE)])
    if (entries := session.page_table_entries(importer, device, buffer)) is None:
        pytest.skip(f"the kernel dumps no page table of {importer.device_id}: no Intel IOMMU translates for it")
    must(not entries, "before it is mapped no entry points into the buffer", entries)
    for name in ("command-mem", "reset", "d3hot", "close"):
        trigger = TRIGGERS[name]
        importer.attach(buffer)
        entries = session.page_table_entries(importer, device, buffer)
        offsets = [entry.offset for entry in entries or []]
        must(offsets == [0, PAGE, 2 * PAGE], f"before {name} an entry points to each page of the buffer", entries)
        trigger.act(device)
        entries = session.page_table_entries(importer, device, buffer)
        must(entries == [], f"after {name} no entry points into the buffer", entries)
        if trigger.undo:
            trigger.undo(device)

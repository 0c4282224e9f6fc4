# SPDX-License-Identifier: GPL-2.0-only
"""A revoke between the check and the use of another call: a pause in the kernel makes these races happen each time."""

import pytest

from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.session import Attachment, Device, DmaBuf, Importer, Nvme, Session, Window
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.session.pause import interleave
from harness.session.races import Operation, attach_operation, export_operation
from harness.witness import Watch

pytestmark = pytest.mark.needs("kprobes", "test_importer", "importer_rules", "awaited_revoke")
rows = rows_in("interleaved")

FREE_S = 1.5
"""Time limit of a call that waits for nothing."""
BLOCKED_S = 0.3
"""A call that has not ended after this time waits."""


def revokes(device: Device) -> Operation:
    """Clear COMMAND.MEM."""
    return Operation(device, "set_memory", {"on": False})


def maps(attachment: Attachment) -> Operation:
    """Map by the DMA API."""
    return Operation(attachment, "map")


def closes(buffer: DmaBuf) -> Operation:
    """Drop the buffer's last reference."""
    return Operation(buffer, "close")


@rows("lifecycle.interleaved", "importers.revoked")
@importers("iommufd+nvme")
def test_a_revoke_during_an_attach(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A buffer that is revoked between an attach's check and its map is not mapped."""
    attaching = attach_operation(importer, buffer)
    result = interleave(session, "attach", attaching, revokes(nvme.device), seconds=FREE_S)
    must(result.meanwhile == "ok", "a revoke during an attach succeeds", result)
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "after a revoke during an attach no entry points into the buffer", f"{entries}; {result}")
    nvme.device.set_memory(True)
    nvme.start()
    if isinstance(result.opened, Window):
        must_be_blocked(ring(nvme, result.opened, watch), "a mapping begun before a revoke does not outlive it")
    else:
        must(result.paused == "ENODEV", "a map whose buffer is revoked under way gives ENODEV", result)
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after the un-revoke a new mapping is live")


@rows("lifecycle.interleaved", "lifecycle.waits")
@importers("dma-api+edu")
def test_a_revoke_during_a_map(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """A revoke waits for a map that is under way, and ends the mapping."""
    attachment = session.attach(buffer, device_id=importer.device_id)
    result = interleave(session, "map", maps(attachment), revokes(nvme.device), seconds=BLOCKED_S)
    must(result.blocked, "a revoke waits for a map that is under way", result)
    must(result.paused == result.meanwhile == "ok", "a map and a revoke that waits for it succeed", result)
    must(not attachment.mapped(), "a revoke ends a mapping that was under way", attachment.events())
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "after a revoke during a map no entry points into the buffer", entries)


@rows("lifecycle.interleaved", "lifecycle.export")
@importers("iommufd+nvme")
def test_a_revoke_during_an_export(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A buffer whose memory is disabled while it is exported is revoked."""
    exporting = export_operation(nvme.device, REGISTERS, [DOORBELL_PAGE])
    result = interleave(session, "export", exporting, revokes(nvme.device), seconds=BLOCKED_S)
    must(result.paused == result.meanwhile == "ok", "an export and a revoke at the same time succeed", result)
    assert isinstance(result.opened, DmaBuf)
    with must_fail("ENODEV", "a buffer exported while memory is disabled is revoked"):
        importer.attach(result.opened)
    nvme.device.set_memory(True)
    nvme.start()
    window = importer.attach(result.opened)
    must_arrive(ring(nvme, window, watch), "a buffer exported while memory is disabled is un-revoked with it")


@rows("lifecycle.interleaved", "lifecycle.last-reference")
@importers("iommufd+nvme")
def test_a_revoke_during_a_release(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A revoke passes over a buffer whose last reference is gone, and revokes the others."""
    going = nvme.export_doorbells()
    window = importer.attach(buffer)
    result = interleave(session, "close", closes(going), revokes(nvme.device), seconds=FREE_S)
    must(result.paused == result.meanwhile == "ok", "a close and a revoke at the same time succeed", result)
    must(len(left := session.bufinfo()) == 1, "a buffer is released once its last reference is gone", left)
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "a revoke during a release revokes the other buffers", entries)
    nvme.device.set_memory(True)
    nvme.start()
    must_be_blocked(ring(nvme, window, watch), "a mapping of another buffer is dead after a revoke during a release")

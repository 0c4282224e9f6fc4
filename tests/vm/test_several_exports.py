# SPDX-License-Identifier: GPL-2.0-only
"""Several exports of one device: each is revoked, whatever the others on the device's list are doing."""

import pytest

from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import HOLD_MS, Importer, Nvme, Session
from harness.witness import Watch

rows = rows_in("lifecycle")

MANY = 12
"""Exports on one list."""
PROMPT_S = 3.0
"""Time limit in seconds for a change of bufinfo, for a slowdown of 1."""


@rows("lifecycle.several")
@importers("iommufd+nvme")
def test_each_export_is_revoked(nvme: Nvme, importer: Importer, attach: Attach, watch: Watch) -> None:
    """A revoke and an un-revoke reach each of many exports of a device: the first, the last and those between."""
    buffers = [nvme.export_doorbells() for _ in range(MANY)]
    attachments = [attach(buffer) for buffer in buffers]
    windows = {number: importer.attach(buffers[number]) for number in (0, MANY // 2, MANY - 1)}
    for attachment in attachments:
        attachment.map()
    queued = nvme.queue_identify()
    nvme.device.set_memory(False)
    for number, attachment in enumerate(attachments):
        revoked = not attachment.mapped() and attachment.notifications() == 1
        must(revoked, f"a revoke reaches export {number} of {MANY}, once", attachment.events())
        with must_fail("ENODEV", f"a revoke reaches export {number} of {MANY}"):
            attachment.map()
    for number, window in windows.items():
        must_be_blocked(ring_once(queued, window, watch), f"a revoke cuts the mapping of export {number} of {MANY}")
    nvme.device.set_memory(True)
    for number, attachment in enumerate(attachments):
        must(attachment.notifications() == 2, f"an un-revoke reaches export {number}, once", attachment.events())
        attachment.map()
    for buffer in buffers[:: MANY - 1]:
        must_arrive(ring(nvme, importer.attach(buffer), watch), "after the un-revoke each export is live")


@pytest.mark.needs("awaited_revoke", "dma-api", "test_importer")
@rows("lifecycle.several", "lifecycle.last-reference")
@pytest.mark.parametrize("trigger", ["command-mem", "close"])
@importers("iommufd+nvme")
def test_a_dying_export_hides_no_other(
    session: Session, nvme: Nvme, importer: Importer, trigger: str, watch: Watch
) -> None:
    """A revoke that meets an export whose last reference is gone revokes the exports after it too."""
    first, dying, last = (nvme.export_doorbells() for _ in range(3))
    holder, after = (session.attach(each, device_id="roce0", delay_ms=ms) for each, ms in ((first, HOLD_MS), (last, 0)))
    holder.map()
    after.map()
    window = importer.attach(last)
    queued = nvme.queue_identify()
    revoke = session.start(TRIGGERS[trigger].act, nvme.device)
    try:
        must(holder.wait_notified(), "a revoke notifies the importer of the first export", holder.events())
        closing = session.start(dying.close)
        gone = session.wait_bufinfo(2, PROMPT_S)
        must(gone and not closing.done(), "an export's release waits for the revoke", session.bufinfo())
        must(after.notifications() == 0, "a revoke goes through the exports in order", after.events())
    finally:
        holder.close()
        revoke.result()
    closing.result()
    must(not after.mapped(), f"{trigger} revokes an export after a dying one", after.events())
    must_be_blocked(ring_once(queued, window, watch), f"{trigger} cuts the mapping of an export after a dying one")
    if trigger == "close":
        again = session.open_nvme()
        with must_fail("ENODEV", "an export after a dying one is dead for good, also once its device is reopened"):
            after.map()
        again.device.set_memory(False)
        again.device.set_memory(True)
    else:
        nvme.device.set_memory(True)
        must(after.notifications() == 2, "an un-revoke reaches an export after a dying one", after.events())
        after.map()
        return
    with must_fail("ENODEV", "an un-revoke of a reopened device reaches no export of the closed one"):
        after.map()


@rows("lifecycle.first-attach")
@importers("iommufd+nvme")
def test_the_first_attach_of_a_revoked_export(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """An export that was never attached is revoked and un-revoked like any other."""
    spare = nvme.export_doorbells()
    for name in ("command-mem", "d3hot", "low-power", "reset"):
        trigger = TRIGGERS[name]
        buffer = nvme.export_doorbells()
        trigger.act(nvme.device)
        if trigger.undo:
            with must_fail("ENODEV", f"during {name} the first attach of an export is refused"):
                importer.attach(buffer)
            trigger.undo(nvme.device)
        nvme.start()
        result = ring(nvme, importer.attach(buffer), watch)
        must_arrive(result, f"after {name} the first mapping of an export is live")
    nvme.device.close()
    with must_fail("ENODEV", "the first attach of an export is refused once its device is closed"):
        importer.attach(spare)
    session.open_nvme()
    with must_fail("ENODEV", "the first attach of an export of a closed device is refused after it is reopened"):
        importer.attach(spare)


@pytest.mark.needs("awaited_revoke")
@rows("lifecycle.export")
@importers("iommufd+nvme")
def test_an_export_during_a_revoke(
    session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """An export requested while a slow importer delays the end of the memory's use starts revoked."""
    buffer = nvme.export_doorbells()
    for name in ("command-mem", "d3hot"):
        trigger = TRIGGERS[name]
        holder = attach(buffer, delay_ms=HOLD_MS)
        holder.map()
        revoke = session.start(trigger.act, nvme.device)
        try:
            must(holder.wait_notified(), f"{name} notifies the importer", holder.events())
            buffers = len(session.bufinfo())
            export = session.start(nvme.export_doorbells)
            begun = session.wait_bufinfo(buffers + 1, PROMPT_S)
            must(begun, f"an export requested during {name} makes its buffer at once", session.bufinfo())
            must(not (export.done() or revoke.done()), f"an export waits for {name}, and that for the importer")
        finally:
            holder.close()
            revoke.result()
        made = export.result()
        with must_fail("ENODEV", f"an export requested while {name} is pending starts revoked"):
            importer.attach(made)
        assert trigger.undo
        trigger.undo(nvme.device)
        nvme.start()
        result = ring(nvme, importer.attach(made), watch)
        must_arrive(result, f"an export requested while {name} is pending is live after it")

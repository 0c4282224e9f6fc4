# SPDX-License-Identifier: GPL-2.0-only
"""How a revoke notifies kernel drivers that import the buffer, and waits until they have unmapped it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import TRIGGERS, importers, rows_in, triggers
from harness.cases.must import must, must_fail
from harness.cases.probe import ANSWER_S, must_arrive, ring, ring_once
from harness.cases.types import Attach
from harness.session import HOLD_MS, Attachment, DmaBuf, FenceUsage, Importer, Nvme, Pending, Session, Window, pci
from harness.witness import Watch

rows = rows_in("notify")
each_trigger = triggers("command-mem", "d3hot", "low-power", "reset", "flr", "hot-reset", "close", area="notify")
awaited_revoke = pytest.mark.needs("awaited_revoke")

BLOCKED_S = 0.2
"""Seconds for which a call that must wait is observed."""
PERSISTENT_S = 1.5
"""The same, where a kernel might give up after a second."""
PROMPT_S = 3.0
"""Time limit in seconds for a revoke that nothing holds up, for a slowdown of 1. The reset itself takes some of it."""

HOW_OFTEN = {1: "once", 2: "twice"}


@pytest.fixture
def slow(buffer: DmaBuf, attach: Attach, importer: Importer) -> tuple[Attachment, Window]:
    """The doorbells, mapped by an importer that unmaps only when the case says so; and the importer's window."""
    attachment = attach(buffer, device_id="edu0", delay_ms=HOLD_MS)
    attachment.map()
    return attachment, importer.window(buffer, attachment)


def kinds(attachment: Attachment) -> list[str]:
    """The kinds of an attachment's events, in order."""
    return [event.kind for event in attachment.events()]


@contextmanager
def finished(pending: Pending[None], *holders: Attachment) -> Iterator[None]:
    """After the block close ``holders``, so that ``pending`` returns: the next case needs the device."""
    try:
        yield
    finally:
        for holder in holders:
            holder.close()
        pending.result()


def waits(session: Session, pending: Pending[None], attachment: Attachment, seconds: float) -> bool:
    """Return whether ``pending`` waits for all of ``seconds``, in real time as a kernel that gives up counts it."""
    attachment.wait_notified(attachment.notifications() + 1, seconds / session.machine.slowdown)
    return not pending.done()


def must_end(session: Session, pending: Pending[None], what: str) -> None:
    """State that ``pending`` returns soon, before an importer's own delay ends: nothing holds it up any more."""
    began = time.monotonic()
    pending.result()
    took, limit = time.monotonic() - began, min(PROMPT_S * session.machine.slowdown, HOLD_MS / 2000)
    must(took < limit, f"{what} goes on as soon as nothing holds it up", f"{took:.1f} s")


def identified(session: Session, nvme: Nvme) -> bool:
    """Return whether a queued Identify runs. Only its data can be read: a revoke holds the lock of the registers."""
    deadline = time.monotonic() + ANSWER_S * session.machine.slowdown
    while not any(nvme.data(4)):
        if time.monotonic() > deadline:
            return False
    return True


def only_one_left(session: Session) -> bool:
    """Return whether all dma-bufs but one are released within the time limit."""
    deadline = time.monotonic() + PROMPT_S * session.machine.slowdown
    while len(session.bufinfo()) > 1:
        if time.monotonic() > deadline:
            return False
    return True


def stays_listed(session: Session, inode: str, seconds: float) -> bool:
    """Return whether debugfs lists a buffer for all of ``seconds``. It does until the last reference is gone."""
    deadline = time.monotonic() + seconds * session.machine.slowdown
    while inode in {row["ino"] for row in session.bufinfo()}:
        if time.monotonic() > deadline:
            return True
    return False


@rows("lifecycle.notified")
@each_trigger
def test_notify_once(nvme: Nvme, buffer: DmaBuf, attach: Attach, trigger: str) -> None:
    """A revoke and an un-revoke each notify every attachment exactly once, mapped or not."""
    action = TRIGGERS[trigger]
    count = action.notifications
    mapped, idle = attach(buffer), attach(buffer)
    mapped.map()
    action.act(nvme.device)
    for each in (mapped, idle):
        must(each.notifications() == count, f"{trigger} notifies each attachment {HOW_OFTEN[count]}", each.events())
    must(kinds(mapped)[:3] == ["mapped", "notified", "unmapped"], "a notified importer unmaps", mapped.events())
    must(not mapped.mapped(), f"{trigger} leaves no mapping behind", mapped.events())
    if action.undo:
        action.undo(nvme.device)
        for each in (mapped, idle):
            notified_once = each.notifications() == count + 1
            must(notified_once, f"the end of {trigger} notifies each attachment once", each.events())


@rows("lifecycle.notified", "lifecycle.idempotent")
def test_notify_of_changes_only(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A second revoke, a second un-revoke and the close of a revoked device notify nothing."""
    attachment = attach(buffer)
    for memory, notifications in ((True, 0), (False, 1), (False, 1), (True, 2), (True, 2), (False, 3)):
        nvme.device.set_memory(memory)
        must(attachment.notifications() == notifications, "each change notifies once", attachment.events())
    nvme.device.close()
    must(attachment.notifications() == 3, "closing a revoked device notifies no attachment", attachment.events())


@rows("lifecycle.notified")
@each_trigger
@importers("dma-api+edu")
def test_the_same_attachment_maps_again(
    nvme: Nvme, attach: Attach, importer: Importer, trigger: str, watch: Watch
) -> None:
    """A revoked attachment maps again after the un-revoke, and never after the device's last close."""
    buffer = nvme.export_doorbells()
    action = TRIGGERS[trigger]
    attachment = attach(buffer, device_id="edu0")
    attachment.map()
    action.act(nvme.device)
    if action.undo:
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be mapped"):
            attachment.map()
        action.undo(nvme.device)
    if trigger == "close":
        with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
            attachment.map()
        return
    nvme.start()
    attachment.map()
    result = ring(nvme, importer.window(buffer, attachment), watch)
    must_arrive(result, f"after {trigger} an attachment made before it maps again")


@awaited_revoke
@rows("lifecycle.waits")
@each_trigger
@importers("dma-api+edu")
def test_revoke_waits_for_a_slow_importer(
    session: Session, nvme: Nvme, slow: tuple[Attachment, Window], trigger: str, watch: Watch
) -> None:
    """The device stays untouched until the last importer has unmapped; then the action goes on at once."""
    holder, window = slow
    queued = nvme.queue_identify()
    pending = session.start(TRIGGERS[trigger].act, nvme.device)
    with finished(pending, holder):
        must(holder.wait_notified(), f"{trigger} notifies the importer", holder.events())
        result = ring_once(queued, window, watch)
        untouched = result.arrived and identified(session, nvme) and pci.power_state(session, UNDER_TEST) == "D0"
        must(untouched, f"{trigger} does not touch the device before the importer has unmapped", result)
        with must_fail("ENODEV", "while a revoke waits the buffer cannot be attached to"):
            session.attach(window.dmabuf, device_id="roce0")
        must(not pending.done(), f"{trigger} waits until the importer has unmapped", holder.events())
        holder.release()
        must_end(session, pending, trigger)
        must(not holder.mapped(), f"when {trigger} returns the importer has unmapped", holder.events())


@awaited_revoke
@rows("lifecycle.waits")
def test_revoke_waits_for_the_last_importer(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A revoke waits for every importer to unmap, detach or close, in any order."""
    holders = [attach(buffer, delay_ms=HOLD_MS) for _ in range(4)]
    for holder in holders:
        holder.map()
    pending = session.start(nvme.device.set_memory, False)
    last = holders[3]
    with finished(pending, *holders):
        must(last.wait_notified(), "a revoke notifies the importer", last.events())
        for finish in (holders[1].release, holders[0].detach, holders[2].close):
            finish()
            must(waits(session, pending, last, BLOCKED_S), "a revoke waits for all", last.events())
        last.unmap()
        must_end(session, pending, "a revoke")


@awaited_revoke
@rows("lifecycle.waits")
@pytest.mark.parametrize("usage", ["kernel", "write", "read", "bookkeep"])
def test_revoke_waits_for_fences(
    session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, usage: FenceUsage
) -> None:
    """A revoke waits for every fence on the buffer, of any usage, and goes on once it is signalled."""
    attachment = attach(buffer)
    attachment.map()
    attachment.fence(usage)
    pending = session.start(nvme.device.set_memory, False)
    with finished(pending, attachment):
        must(attachment.wait_notified(), "a revoke notifies the importer before it waits", attachment.events())
        blocked = waits(session, pending, attachment, BLOCKED_S)
        must(blocked, f"a revoke waits for a fence of usage {usage}", attachment.events())
        attachment.signal()
        must_end(session, pending, "a revoke")


@awaited_revoke
@rows("lifecycle.waits")
@pytest.mark.parametrize("patience", ["fence", "importer"])
def test_revoke_does_not_give_up(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, patience: str) -> None:
    """The wait for a fence or an importer has no time limit: the mapping may be in use."""
    attachment = attach(buffer, delay_ms=HOLD_MS if patience == "importer" else 0)
    attachment.map()
    if patience == "fence":
        attachment.fence("bookkeep")
    pending = session.start(nvme.device.set_memory, False)
    with finished(pending, attachment):
        must(attachment.wait_notified(), "a revoke notifies the importer", attachment.events())
        blocked = waits(session, pending, attachment, PERSISTENT_S)
        must(blocked, f"a revoke does not give up on the {patience}", attachment.events())


@awaited_revoke
@rows("lifecycle.waits", "lifecycle.last-reference")
@pytest.mark.parametrize("trigger", ["command-mem", "close"])
def test_a_buffer_may_go_during_a_revoke(
    session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, trigger: str
) -> None:
    """A buffer's last reference may be dropped while a revoke runs."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    other = nvme.export_doorbells()
    pending = session.start(TRIGGERS[trigger].act, nvme.device)
    with finished(pending, holder):
        must(holder.wait_notified(), "a revoke notifies the importer", holder.events())
        closing = session.start(other.close)
        must(only_one_left(session), "a buffer is gone from bufinfo with its last reference", session.bufinfo())
        must(not closing.done(), "a buffer's release waits for the revoke", holder.events())
        holder.release()
        must_end(session, pending, trigger)
        closing.result()


@rows("lifecycle.notified", "lifecycle.command-mem")
def test_notify_of_an_unrevoke_an_importer_can_map(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """An importer can map inside the callback that notifies it of an un-revoke; no second notification follows."""
    eager = attach(buffer, remap=True)
    eager.map()
    nvme.device.set_memory(False)
    must(not eager.mapped(), "while the buffer is revoked the callback cannot map it again", eager.events())
    nvme.device.set_memory(True)
    must(eager.mapped(), "notified of the un-revoke, an importer can map", eager.events())


@rows("lifecycle.last-reference")
@awaited_revoke
def test_a_buffer_that_is_going_is_left_alone(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A reset does not touch a buffer whose last reference is gone and whose release waits for that reset."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    going = nvme.export_doorbells()
    inode = str(going.inode())
    reset = session.start(nvme.device.reset)
    with finished(reset, holder):
        must(holder.wait_notified(), "a reset notifies the importer", holder.events())
        closing = session.start(going.close)
        with finished(closing, holder):
            released = not stays_listed(session, inode, PROMPT_S)
            must(released, "nothing else has a reference to the buffer", session.bufinfo())
            must(not (closing.done() or reset.done()), "a buffer is not freed while its device is reset")
            holder.release()
            must_end(session, reset, "a reset")
            must_end(session, closing, "a close")


@rows("lifecycle.export")
@awaited_revoke
def test_an_export_waits_for_the_end_of_a_reset(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """An export requested during a reset waits for its end, and is live."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    reset = session.start(nvme.device.reset)
    with finished(reset, holder):
        must(holder.wait_notified(), "a reset notifies the importer", holder.events())
        export = session.start(nvme.export_doorbells)
        must(waits(session, reset, holder, BLOCKED_S), "a reset waits for the importer", holder.events())
        must(not export.done(), "an export waits for the end of a reset")
        holder.release()
        must_end(session, reset, "a reset")
        attach(export.result()).map()

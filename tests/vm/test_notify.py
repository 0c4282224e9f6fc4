# SPDX-License-Identifier: GPL-2.0-only
"""What a revoke asks of kernel drivers that import the buffer, and that it waits until they have done it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import ANSWER_S, must_arrive, ring, ring_once
from harness.session import HOLD_MS, Attachment, Device, DmaBuf, FenceUsage, Importer, Nvme, Pending, Session, Window
from harness.witness import Watch

Attach = Callable[..., Attachment]

D0, D3HOT = 0, 3
BLOCKED_S = 0.2
"""How long something that must wait is watched waiting."""
STUBBORN_S = 1.5
"""The same, where a kernel may be tempted to give up after a second."""
PROMPT_S = 3.0
"""How soon a revoke must be over once nobody holds it up, for a slowdown of 1. The reset itself takes some of it."""


@dataclass(frozen=True)
class Trigger:
    """What a user does to a device that revokes, and how often ``act`` tells an attachment; ``undo``: once."""

    row: str
    act: Callable[[Device], None]
    told: int
    undo: Callable[[Device], None] | None = None


TRIGGERS = {
    "command-mem": Trigger("command-mem", lambda it: it.set_memory(False), 1, lambda it: it.set_memory(True)),
    "d3hot": Trigger("power", lambda it: it.set_power_state(D3HOT), 1, lambda it: it.set_power_state(D0)),
    "low-power": Trigger("low-power", Device.low_power_entry, 1, Device.low_power_exit),
    "reset": Trigger("reset", Device.reset, 2),
    "flr": Trigger("flr", Device.flr, 2),
    "hot-reset": Trigger("hot-reset", Device.hot_reset, 2),
    "close": Trigger("close", Device.close, 1),
}


def rows(*names: str) -> pytest.MarkDecorator:
    """The rows of section 2 of the contract that a case covers."""
    return pytest.mark.contract("notify", *(f"lifecycle.{name}" for name in names))


each_trigger = pytest.mark.parametrize(
    "trigger", [pytest.param(name, marks=rows(what.row)) for name, what in TRIGGERS.items()]
)
awaited = pytest.mark.needs("awaited_revoke")
by_dma_api = pytest.mark.parametrize("importer", ["dma-api+edu"], indirect=True)


@pytest.fixture
def buffer(nvme: Nvme) -> DmaBuf:
    """The doorbells of the controller under test."""
    return nvme.export_doorbells()


@pytest.fixture
def slow(nvme: Nvme, attach: Attach, importer: Importer) -> tuple[Attachment, Window]:
    """The doorbells, mapped by an importer that lets go of them when the case says so; and what it reaches."""
    buffer = nvme.export_doorbells()
    attachment = attach(buffer, device_id="edu0", delay_ms=HOLD_MS)
    attachment.map()
    return attachment, importer.window(buffer, attachment)


def kinds(attachment: Attachment) -> list[str]:
    """What happened to it, in order."""
    return [event.kind for event in attachment.events()]


@contextmanager
def let_through(pending: Pending[None], *holders: Attachment) -> Iterator[None]:
    """Whatever becomes of the block, nobody holds ``pending`` up after it: the next case needs the device."""
    try:
        yield
    finally:
        for holder in holders:
            holder.close()
        pending.result()


def waits(session: Session, pending: Pending[None], attachment: Attachment, seconds: float) -> bool:
    """Whether ``pending`` is held up all the time: real time, as a kernel that gives up counts it."""
    attachment.wait_notified(attachment.notifications() + 1, seconds / session.machine.slowdown)
    return not pending.done()


def must_end(session: Session, pending: Pending[None], what: str) -> None:
    """Nobody holds ``pending`` up any more: it ends, and not because of an importer's own patience."""
    began = time.monotonic()
    pending.result()
    took, limit = time.monotonic() - began, min(PROMPT_S * session.machine.slowdown, HOLD_MS / 2000)
    must(took < limit, f"{what} goes on as soon as nobody holds it up", f"{took:.1f} s")


def identified(session: Session, nvme: Nvme) -> bool:
    """Whether a queued Identify runs; judged by its data alone, since a revoke holds what guards the registers."""
    deadline = time.monotonic() + ANSWER_S * session.machine.slowdown
    while not any(nvme.data(4)):
        if time.monotonic() > deadline:
            return False
    return True


def only_one_left(session: Session) -> bool:
    """Whether all dma-bufs but one are gone, or soon are."""
    deadline = time.monotonic() + PROMPT_S * session.machine.slowdown
    while len(session.bufinfo()) > 1:
        if time.monotonic() > deadline:
            return False
    return True


@rows("notified")
@each_trigger
def test_notify_once(nvme: Nvme, buffer: DmaBuf, attach: Attach, trigger: str) -> None:
    """Each attachment, mapped or not, is told once of a revoke and once of an un-revoke, and lets go when told."""
    what = TRIGGERS[trigger]
    mapped, idle = attach(buffer), attach(buffer)
    mapped.map()
    what.act(nvme.device)
    for each in (mapped, idle):
        must(each.notifications() == what.told, f"{trigger} tells each importer {what.told} times", each.events())
    must(kinds(mapped)[:3] == ["mapped", "notified", "unmapped"], "told, an importer unmaps", mapped.events())
    must(not mapped.mapped(), f"{trigger} leaves no mapping behind", mapped.events())
    if what.undo:
        what.undo(nvme.device)
        for each in (mapped, idle):
            must(
                each.notifications() == what.told + 1,
                f"each importer is told of the end of {trigger}, once",
                each.events(),
            )


@rows("notified", "idempotent")
def test_notify_of_changes_only(nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """Nobody is told what he knows: not of a second revoke or un-revoke, nor of a close where all is revoked."""
    attachment = attach(buffer)
    for on, told in ((True, 0), (False, 1), (False, 1), (True, 2), (True, 2), (False, 3)):
        nvme.device.set_memory(on)
        must(attachment.notifications() == told, "each change is told once", attachment.events())
    nvme.device.close()
    must(attachment.notifications() == 3, "closing a device that is revoked tells nobody", attachment.events())


@rows("notified")
@each_trigger
@by_dma_api
def test_the_same_attachment_maps_again(
    nvme: Nvme, attach: Attach, importer: Importer, trigger: str, watch: Watch
) -> None:
    """Revoked, a driver's attachment stays: once the buffer is back it maps again; after the last close it cannot."""
    what, buffer = TRIGGERS[trigger], nvme.export_doorbells()
    attachment = attach(buffer, device_id="edu0")
    attachment.map()
    what.act(nvme.device)
    if what.undo:
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be mapped"):
            attachment.map()
        what.undo(nvme.device)
    if trigger == "close":
        with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
            attachment.map()
        return
    nvme.start()
    attachment.map()
    result = ring(nvme, importer.window(buffer, attachment), watch)
    must_arrive(result, f"after {trigger} an attachment from before it maps again")


@awaited
@rows("waits")
@each_trigger
@by_dma_api
def test_revoke_waits_for_a_slow_importer(
    session: Session, nvme: Nvme, slow: tuple[Attachment, Window], trigger: str, watch: Watch
) -> None:
    """Until the last importer has unmapped the device stays as it was; then the action goes on at once."""
    holder, window = slow
    queued = nvme.queue_identify()
    pending = session.start(TRIGGERS[trigger].act, nvme.device)
    with let_through(pending, holder):
        must(holder.wait_notified(), f"{trigger} tells the importer", holder.events())
        result = ring_once(queued, window, watch)
        untouched = result.arrived and identified(session, nvme) and session.power_state("nvme0") == "D0"
        must(untouched, f"{trigger} touches nothing before the importer has unmapped", result)
        with must_fail("ENODEV", "while a revoke waits nobody attaches any more"):
            session.attach(window.dmabuf, device_id="roce0")
        must(not pending.done(), f"{trigger} waits until the importer has unmapped", holder.events())
        holder.release()
        must_end(session, pending, trigger)
        must(not holder.mapped(), "what was waited for has happened", holder.events())


@awaited
@rows("waits")
def test_revoke_waits_for_the_last_importer(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """Of several importers each is waited for, in whatever order they unmap, detach, or disappear."""
    holders = [attach(buffer, delay_ms=HOLD_MS) for _ in range(4)]
    for holder in holders:
        holder.map()
    pending = session.start(nvme.device.set_memory, False)
    last = holders[3]
    with let_through(pending, *holders):
        must(last.wait_notified(), "a revoke tells the importer", last.events())
        for let_go in (holders[1].release, holders[0].detach, holders[2].close):
            let_go()
            must(waits(session, pending, last, BLOCKED_S), "a revoke waits for all", last.events())
        last.unmap()
        must_end(session, pending, "a revoke")


@awaited
@rows("waits")
@pytest.mark.parametrize("usage", ["kernel", "write", "read", "bookkeep"])
def test_revoke_waits_for_fences(
    session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, usage: FenceUsage
) -> None:
    """A revoke waits for every fence on the buffer, however it is used, and goes on once it is signalled."""
    attachment = attach(buffer)
    attachment.map()
    attachment.fence(usage)
    pending = session.start(nvme.device.set_memory, False)
    with let_through(pending, attachment):
        must(attachment.wait_notified(), "a revoke tells the importer before it waits", attachment.events())
        blocked = waits(session, pending, attachment, BLOCKED_S)
        must(blocked, f"a revoke waits for a fence of usage {usage}", attachment.events())
        attachment.signal()
        must_end(session, pending, "a revoke")


@awaited
@rows("waits")
@pytest.mark.parametrize("patience", ["fence", "importer"])
def test_revoke_does_not_give_up(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, patience: str) -> None:
    """Neither for a fence nor for an importer does the wait end by itself: what it is for may be in use."""
    attachment = attach(buffer, delay_ms=HOLD_MS if patience == "importer" else 0)
    attachment.map()
    if patience == "fence":
        attachment.fence("bookkeep")
    pending = session.start(nvme.device.set_memory, False)
    with let_through(pending, attachment):
        must(attachment.wait_notified(), "a revoke tells the importer", attachment.events())
        blocked = waits(session, pending, attachment, STUBBORN_S)
        must(blocked, f"a revoke does not give up on the {patience}", attachment.events())


@awaited
@rows("waits", "last-reference")
@pytest.mark.parametrize("trigger", ["command-mem", "close"])
def test_a_buffer_may_go_during_a_revoke(
    session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, trigger: str
) -> None:
    """A revoke that comes to a buffer whose last reference has just gone lets it go."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    other = nvme.export_doorbells()
    pending = session.start(TRIGGERS[trigger].act, nvme.device)
    with let_through(pending, holder):
        must(holder.wait_notified(), "a revoke tells the importer", holder.events())
        going = session.start(other.close)
        must(only_one_left(session), "a buffer is gone from bufinfo with its last reference", session.bufinfo())
        must(not going.done(), "a buffer's release waits for the revoke", holder.events())
        holder.release()
        must_end(session, pending, trigger)
        going.result()


@rows("notified", "command-mem")
def test_notify_of_an_unrevoke_an_importer_can_map(nvme: Nvme, attach: Attach) -> None:
    """An importer that is told of the end of a revoke can map at once, in the callback: nobody tells it again."""
    buffer = nvme.export_doorbells()
    eager = attach(buffer, remap=True)
    eager.map()
    nvme.device.set_memory(False)
    must(not eager.mapped(), "while the buffer is revoked the callback cannot map it again", eager.events())
    nvme.device.set_memory(True)
    must(eager.mapped(), "told that the buffer is back, an importer can map it", eager.events())


def listed(session: Session, inode: str, seconds: float) -> bool:
    """Whether debugfs lists a buffer all the time: it does until the last reference is gone."""
    deadline = time.monotonic() + seconds * session.machine.slowdown
    while inode in {row["ino"] for row in session.bufinfo()}:
        if time.monotonic() > deadline:
            return True
    return False


@rows("last-reference")
@pytest.mark.needs("awaited_revoke")
def test_a_buffer_that_is_going_is_left_alone(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A buffer whose last reference is gone, while a reset keeps it from being freed, is not touched by that reset."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    going = nvme.export_doorbells()
    inode = str(going.inode())
    reset = session.start(nvme.device.reset)
    with let_through(reset, holder):
        must(holder.wait_notified(), "a reset tells the importer", holder.events())
        closing = session.start(going.close)
        with let_through(closing, holder):
            must(not listed(session, inode, PROMPT_S), "nobody else has a reference to the buffer", session.bufinfo())
            must(not (closing.done() or reset.done()), "a buffer is not freed while its device is reset")
            holder.release()
            must_end(session, reset, "a reset")
            must_end(session, closing, "a close")


@rows("export")
@pytest.mark.needs("awaited_revoke")
def test_an_export_waits_for_the_end_of_a_reset(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """Nothing is exported while the device is reset: what is asked for meanwhile comes after it, and is live."""
    holder = attach(buffer, delay_ms=HOLD_MS)
    holder.map()
    reset = session.start(nvme.device.reset)
    with let_through(reset, holder):
        must(holder.wait_notified(), "a reset tells the importer", holder.events())
        export = session.start(nvme.export_doorbells)
        must(waits(session, reset, holder, BLOCKED_S), "a reset waits for the importer", holder.events())
        must(not export.done(), "an export waits for the end of a reset")
        holder.release()
        must_end(session, reset, "a reset")
        attach(export.result()).map()

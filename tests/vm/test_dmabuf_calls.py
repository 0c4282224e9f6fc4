# SPDX-License-Identifier: GPL-2.0-only
"""The dma-buf uAPI on an export's fd: lseek, names, poll, sync files; and fds that are no dma-buf."""

import os
import select
import time
from functools import partial

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_be_blocked, ring_once
from harness.cases.types import Attach
from harness.session import DmaBuf, FenceUsage, Importer, Nvme, Session
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.witness import Watch

rows = rows_in("dma-buf calls")

DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_END = 1, 2, 4
"""include/uapi/linux/dma-buf.h"""
DMA_BUF_NAME_LEN = 32
FENCES: tuple[tuple[FenceUsage, int], ...] = (("write", 0), ("read", select.POLLIN))
"""By the usage of an unsignalled fence, what poll reports as ready."""
BOTH = select.POLLIN | select.POLLOUT
POLL_S = 10.0
"""Seconds, for a slowdown of 1, after which poll stops sleeping and reports, as if it had been woken."""
BLOCKED_S = 0.2
"""Seconds for which a call that must wait is observed."""
SEEKS = [(0, os.SEEK_SET, 0), (0, os.SEEK_END, PAGE)]
"""(offset, whence, position)."""
REFUSED_SEEKS = [(1, os.SEEK_SET), (-1, os.SEEK_END), (PAGE, os.SEEK_END), (0, os.SEEK_CUR), (0, os.SEEK_DATA)]


@rows("uapi.seek", "uapi.name", "uapi.open-flags", "uapi.sync", "uapi.sync-file")
def test_calls_that_need_no_importer(session: Session, nvme: Nvme) -> None:
    """lseek, SET_NAME, SYNC and O_NONBLOCK work on an export, live, revoked or outliving its device."""
    buffer = nvme.device.export(REGISTERS, [DOORBELL_PAGE], open_flags=os.O_RDWR | os.O_NONBLOCK)
    must(buffer.status_flags() & os.O_NONBLOCK, "open_flags decide O_NONBLOCK", f"{buffer.status_flags():#o}")
    must("name" not in buffer.fdinfo(), "an export has no name at first", buffer.fdinfo())
    states = {"live": None, "revoked": lambda: nvme.device.set_memory(False), "dead": nvme.device.close}
    for state, enter in states.items():
        if enter:
            enter()
        for offset, whence, position in SEEKS:
            found = buffer.seek(offset, whence)
            must(found == position, f"lseek to {offset} from {whence} of a {state} export gives {position}", found)
        for offset, whence in REFUSED_SEEKS:
            with must_fail("EINVAL", f"lseek to {offset} from {whence} of a {state} export is refused"):
                buffer.seek(offset, whence)
        for name in (state, "n" * (DMA_BUF_NAME_LEN - 1)):
            buffer.set_name(name)
            named = [entry["name"] for entry in session.bufinfo()]
            must(buffer.fdinfo()["name"] == name and named == [name], f"a {state} export can be named", named)
        with must_fail("EINVAL", f"a name of {DMA_BUF_NAME_LEN} characters is refused"):
            buffer.set_name("n" * DMA_BUF_NAME_LEN)
        for flags in (DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE):
            buffer.sync(flags)
            buffer.sync(flags | DMA_BUF_SYNC_END)
        for flags in (0, DMA_BUF_SYNC_END, DMA_BUF_SYNC_READ | 8):
            with must_fail("EINVAL", f"SYNC of a {state} export with flags {flags} is refused"):
                buffer.sync(flags)
        must(buffer.poll(BOTH) == BOTH, f"poll finds a {state} export without a fence ready", buffer.poll(BOTH))
        must(buffer.export_sync_file(DMA_BUF_SYNC_READ).signalled(), f"a {state} export without a fence is idle")
        with must_fail("EINVAL", "EXPORT_SYNC_FILE without flags is refused"):
            buffer.export_sync_file(0)
        idle = buffer.export_sync_file(DMA_BUF_SYNC_READ)
        for flags in (0, DMA_BUF_SYNC_END, DMA_BUF_SYNC_READ | 8):
            with must_fail("EINVAL", f"IMPORT_SYNC_FILE into a {state} export with flags {flags} is refused"):
                buffer.import_sync_file(flags, idle)
        for kind in ("memfd", "none"):
            with must_fail("EINVAL", f"IMPORT_SYNC_FILE of fd {kind}, which is no sync file, is refused"):
                buffer.import_sync_file(DMA_BUF_SYNC_READ, session.other_file(kind))
        count = buffer.fdinfo()["count"]
        must(count == "1", f"only its fd holds a {state} export", count)


@rows("uapi.poll", "uapi.sync-file")
def test_fences_show_in_poll_and_sync_files(session: Session, buffer: DmaBuf, attach: Attach) -> None:
    """poll and EXPORT_SYNC_FILE report an unsignalled fence of an export, and the end of it."""
    for usage, ready in FENCES:
        attachment = attach(buffer)
        attachment.fence(usage)
        must(buffer.poll(BOTH) == ready, f"poll reports a fence of usage {usage}", buffer.poll(BOTH))
        readers, writers = (buffer.export_sync_file(flags) for flags in (DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE))
        pending = (readers.signalled(), writers.signalled())
        must(pending == (bool(ready), False), f"a sync file has a fence of usage {usage}", pending)
        attachment.signal()
        must(readers.signalled() and writers.signalled(), "a sync file is signalled with its fence")
        must(buffer.poll(BOTH) == BOTH, "poll reports the end of a fence", buffer.poll(BOTH))
        attachment.close()
    count = buffer.fdinfo()["count"]
    must(count == "1", "a poll that waited for a fence leaves no reference", count)


@rows("uapi.poll")
def test_a_fence_wakes_a_poll(session: Session, buffer: DmaBuf, attach: Attach) -> None:
    """A poll that sleeps ends when the fence that it waits for is signalled."""
    usages: tuple[tuple[FenceUsage, int], ...] = (("write", select.POLLIN), ("read", select.POLLOUT))
    for usage, event in usages:
        attachment = attach(buffer)
        attachment.fence(usage)
        sleeper = session.start(buffer.poll, event, POLL_S)
        attachment.wait_notified(1, BLOCKED_S / session.machine.slowdown)
        must(not sleeper.done(), f"a poll sleeps while a fence of usage {usage} is not signalled")
        signalled = time.monotonic()
        attachment.signal()
        found, seconds = sleeper.result(), time.monotonic() - signalled
        must(found == event, f"a poll reports the end of a fence of usage {usage}", found)
        awake = seconds < POLL_S * session.machine.slowdown / 2
        must(awake, f"the end of a fence of usage {usage} wakes a poll", f"{seconds:.1f} s")
        attachment.close()


@pytest.mark.needs("awaited_revoke", "dma-api", "test_importer")
@rows("uapi.sync-file", "lifecycle.waits")
@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("udmabuf", "sw_sync")]
)  # fmt: skip
@importers("iommufd+nvme")
def test_a_revoke_waits_for_a_fence_of_user_space(
    session: Session, nvme: Nvme, importer: Importer, source: str, watch: Watch
) -> None:
    """A revoke waits for a fence that user space imported, of any usage, and goes on once it is signalled."""
    buffer = nvme.export_doorbells()
    attach = partial(session.attach, device_id="roce0")
    for flags in (DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE):
        attachment = attach(buffer)
        window = importer.attach(buffer)
        if source == "sw_sync":
            timeline = session.timeline()
            fence, signal = timeline.fence(), timeline.advance
        else:
            origin = session.udmabuf(PAGE)  # not of this device, whose revoke would wait for a fence on it in any case
            other = attach(origin)
            other.fence("write")
            fence, signal = origin.export_sync_file(DMA_BUF_SYNC_WRITE), other.signal
        buffer.import_sync_file(flags, fence)
        fence.close()
        queued = nvme.queue_identify()
        revoke = session.start(nvme.device.set_memory, False)
        try:
            must(attachment.wait_notified(), "a revoke notifies before it waits", attachment.events())
            attachment.wait_notified(2, BLOCKED_S / session.machine.slowdown)
            must(not revoke.done(), f"a revoke waits for a fence imported with flags {flags}", attachment.events())
        finally:
            signal()
            revoke.result()
        must_be_blocked(ring_once(queued, window, watch), "a revoke that waited for a fence cuts each mapping")
        nvme.device.set_memory(True)
        attachment.close()


NO_DMABUF = {"memfd": "EINVAL", "eventfd": "EINVAL", "directory": "EINVAL", "device": "EINVAL", "none": "EBADF"}
"""The errno of attach and REG_DMABUF_MR by kind of file (dma_buf_get)."""


@rows("importers.no-dma-buf")
@importers("iommufd+nvme", "rxe")
def test_other_files_are_refused(session: Session, nvme: Nvme, attach: Attach, importer: Importer) -> None:
    """An fd that is no dma-buf is refused. MAP_FILE takes a memfd, which is memory, and no other file."""
    for kind, errno in NO_DMABUF.items():
        file = session.other_file(kind)
        with must_fail(errno, f"attach to fd {kind}, which is no dma-buf, gives {errno}"):
            attach(file)
        if importer.kind.name == "iommufd+nvme" and kind == "memfd":
            window = importer.attach(file, 0, PAGE)
            window.write(0, b"memory")
            must(window.read(0, 6) == b"memory", "MAP_FILE of a memfd maps its memory")
            continue
        with must_fail(errno, f"{importer.kind.name} refuses fd {kind}, which is no dma-buf, with {errno}"):
            importer.attach(file, 0, PAGE)
    with must_fail("EINVAL", "the fd of a vfio device is no dma-buf"):
        importer.attach(DmaBuf(nvme.agent, nvme.device.ref, region=-1, ranges=[]), 0, PAGE)

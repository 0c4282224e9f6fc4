# SPDX-License-Identifier: GPL-2.0-only
"""RDMA from another machine: a requester in a second VM reaches the exporter's BARs over a network link."""

import secrets
from collections.abc import Callable

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("roce-pair")
pytestmark = pytest.mark.machine("roce-pair")

REFUSED = "IBV_WC_REM_ACCESS_ERR"
STORM_WRITES = 64
"""RDMA WRITEs that arrive before the storm is cut off."""
NO_QUEUE = 0x1000 + 8 * 60
"""Offset of a doorbell without a queue: the controller logs the write, and does nothing else."""
MARKER_QUEUE = 7
"""The queue whose doorbell the CPU rings after the reset, so that the host's trace has the moment."""
QUEUE, DATA_OFFSET = 6, 0x10000
"""The queue of the remote I/O, which begins the CMB, and where its data goes."""
BLOCK, LBA = 512, 7
PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""


@rows("importers.rdma-peer")
@importers("rxe")
def test_a_remote_doorbell(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An RDMA WRITE from another machine rings the doorbell, once, and the controller runs the command."""
    remote = session.peer.connect(importer).reach(importer.attach(buffer))
    for _ in range(3):
        queued = nvme.queue_identify()
        result = ring(nvme, remote, watch, queued=queued)
        must_arrive(result, "a doorbell that another machine rings makes the controller run the command")
        must(result.values == [queued.tail], "an RDMA WRITE of a dword is one write of the doorbell", result.values)


@rows("importers.rdma-peer", "importers.content")
@importers("rxe")
def test_remote_data(session: Session, nvme: Nvme, cmb: Cmb, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """Another machine reads what the CPU wrote to the BAR, and its writes change exactly the bytes they address."""
    window = importer.attach(cmb_buffer)
    remote = session.peer.connect(importer).reach(window)
    for page in range(PAGES):
        seen = remote.read(page * PAGE, PAGE)
        must(seen == bytes([page]) * PAGE, "another machine reads what is in the BAR", f"page {page}: {seen[:8].hex()}")
    expected = bytearray(b"".join(bytes([page]) * PAGE for page in range(PAGES)))
    for offset, length in ((0, 4), (8, 8), (PAGE - 4, 8), (2 * PAGE + 3, 61), (PAGE, 2 * PAGE + 17)):
        data = secrets.token_bytes(length)
        remote.write(offset, data)
        expected[offset : offset + length] = data
        found = nvme.device.read(cmb.region, cmb.offset, PAGES * PAGE)
        must(found == expected, "a write from another machine lands exactly where it aims", f"{length} at {offset:#x}")


@rows("importers.rdma-peer")
@importers("rxe")
def test_remote_io_from_another_machine(
    session: Session, nvme: Nvme, cmb: Cmb, importer: Importer, watch: Watch
) -> None:
    """Another machine writes a command into the CMB, rings its doorbell, and reads the disk's content from the CMB."""
    content = secrets.token_bytes(BLOCK)
    with session.machine.drive(UNDER_TEST).open("r+b") as disk:
        disk.seek(LBA * BLOCK)
        disk.write(content)
    nvme.create_io_queue(QUEUE, cmb_offset=0)
    requester = session.peer.connect(importer)
    memory = requester.reach(importer.attach(nvme.device.export(cmb.region, [(cmb.offset, cmb.size)])))
    doorbells = requester.reach(importer.attach(nvme.export_doorbells()))
    queued = nvme.queue_read(LBA, 1, qid=QUEUE, cmb_offset=DATA_OFFSET, write_entry=False)
    memory.write(queued.offset, queued.sqe)
    result = ring(nvme, doorbells, watch, queued=queued)
    must_arrive(result, "the controller runs a command that another machine wrote and rang")
    seen = memory.read(DATA_OFFSET, BLOCK)
    must(seen == content, "another machine reads from the CMB what the host finds on the disk", seen[:8].hex())


def reset(nvme: Nvme) -> None:
    """Reset the device, and mark the moment in the host's trace."""
    nvme.reset_and_ring(MARKER_QUEUE)


def disable_memory(nvme: Nvme) -> None:
    """Clear COMMAND.MEM and set it again. The CPU then rings the marker."""
    nvme.device.set_memory(False)
    nvme.device.set_memory(True)
    nvme.device.write(REGISTERS, 0x1000 + 8 * MARKER_QUEUE, (1).to_bytes(4, "little"))


@rows("importers.rdma-peer-revoked", "importers.rdma-remote")
@pytest.mark.parametrize("revoke", [reset, disable_memory], ids=["reset", "command-mem"])
@importers("rxe")
def test_a_revoke_under_remote_traffic(
    session: Session, nvme: Nvme, importer: Importer, watch: Watch, revoke: Callable[[Nvme], None]
) -> None:
    """A revoke ends the writes of another machine with a remote access error, and none arrives afterwards."""
    buffer = nvme.export_doorbells()
    window = importer.attach(buffer)
    queued = nvme.queue_identify()
    mark = watch.mark()
    storm = session.peer.connect(importer).storm(window, buffer.offset_of(queued.doorbell), queued.tail)
    storm.wait_written(STORM_WRITES)
    revoke(nvme)
    written, status = storm.outcome()
    bells = [bell.qid for bell in watch.doorbells(mark) if bell.queue == "sq"]
    must(MARKER_QUEUE in bells, "the host sees the CPU's write that follows the revoke", bells[-8:])
    end = bells.index(MARKER_QUEUE)
    must(status == REFUSED, "a revoke refuses the writes of another machine", status or "no write was refused")
    seen = f"{end} writes before and {len(bells) - end - 1} after it, {written} reported as done"
    must(end >= STORM_WRITES, "before the revoke the writes of another machine arrive", seen)
    must(len(bells) == end + 1, "after the revoke no write of another machine arrives", seen)
    must(end >= written, "each write that was reported as done has arrived", seen)
    nvme.start()
    again = session.peer.connect(importer).reach(window)
    result = ring_once(nvme.queue_identify(), again, watch)
    must_be_blocked(result, "a new connection does not reach a revoked MR")
    must(result.refused == REFUSED, "a new connection to a revoked MR gets a remote access error", result)
    fresh = session.peer.connect(importer).reach(importer.attach(buffer))
    must_arrive(ring(nvme, fresh, watch), "after the revoke another machine reaches a new MR of the same fd")


@rows("importers.rdma-peer-lost", "lifecycle.reset")
@importers("rxe")
def test_the_requester_disappears(
    session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A requester's machine that disappears while it writes leaves export, MR and device sound."""
    buffer = nvme.export_doorbells()
    attachment, window = attach(buffer), importer.attach(buffer)
    attachment.map()
    storm = session.peer.connect(importer).storm(window, buffer.offset_of(NO_QUEUE), 1)
    storm.wait_written(STORM_WRITES)
    session.peer.kill()
    must_arrive(ring(nvme, window, watch), "without the other machine the MR is live for its own")
    nvme.device.reset()
    must(attachment.notifications() == 2, "the reset revokes and un-revokes", attachment.events())
    nvme.start()
    must_be_blocked(ring(nvme, window, watch), "the reset revokes the MR")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "a new MR of the same fd is live")
    window.detach()
    buffer.close()
    exported = nvme.export_doorbells()
    must_arrive(ring(nvme, importer.attach(exported), watch), "a new export is live")

# SPDX-License-Identifier: GPL-2.0-only
"""RDMA as an importer: how a revoked MR over a dma-buf answers, from either side, and how it is deregistered."""

from harness.cases.constants import PAGE, U64
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.errors import ImporterRefused
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session, Window
from harness.witness import Watch

rows = rows_in("rdma")

PAGES = 4
"""Pages of the fixture ``cmb_buffer``."""
REMOTE, LOCAL = "IBV_WC_REM_ACCESS_ERR", "IBV_WC_LOC_PROT_ERR"
NEW_REGIONS = 8


def statuses(window: Window, offset: int = 0) -> list[str]:
    """The statuses of a 4-byte read and a 4-byte write at ``offset``."""
    found = []
    for transfer in (lambda: window.read(offset, 4), lambda: window.write(offset, b"\xff" * 4)):
        try:
            transfer()
        except ImporterRefused as refusal:
            found.append(str(refusal))
        else:
            found.append("IBV_WC_SUCCESS")
    return found


@rows("importers.rdma-remote")
@importers("rxe")
def test_a_revoked_region_refuses_its_peer(nvme: Nvme, cmb: Cmb, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """RDMA READ and WRITE of a revoked MR are remote access errors, during the revoke and ever after."""
    window = importer.attach(cmb_buffer)
    must(window.read(2 * PAGE, 4) == b"\2" * 4, "before the revoke the MR is live")
    nvme.device.set_memory(False)
    found = statuses(window)
    must(found == [REMOTE] * 2, "READ and WRITE of a revoked MR are remote access errors", found)
    nvme.device.set_memory(True)
    found = statuses(window)
    must(found == [REMOTE] * 2, "after the un-revoke a revoked MR stays dead", found)
    must(nvme.device.read(cmb.region, cmb.offset, 4) == bytes(4), "a refused WRITE changes nothing")
    must(importer.attach(cmb_buffer).read(2 * PAGE, 4) == b"\2" * 4, "a new MR of the same fd is live")


@rows("importers.rdma-local")
@importers("rxe")
def test_a_revoked_region_refuses_its_owner(nvme: Nvme, cmb: Cmb, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """Local use of a revoked MR is a local protection error, as source and as destination."""
    local = importer.attach(cmb_buffer).local()
    must(local.read(2 * PAGE, 4) == b"\2" * 4, "before the revoke the MR is a source of data")
    local.write(PAGE, b"data")
    seen = nvme.device.read(cmb.region, cmb.offset + PAGE, 4)
    must(seen == b"data", "before the revoke the MR is a destination of data", seen)
    nvme.device.set_memory(False)
    found = statuses(local)
    must(found == [LOCAL] * 2, "local use of a revoked MR is a local protection error", found)
    nvme.device.set_memory(True)
    found = statuses(local)
    must(found == [LOCAL] * 2, "after the un-revoke local use of a revoked MR stays an error", found)


@rows("importers.rdma-local")
@importers("rxe")
def test_local_use_rings_and_is_revoked(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An RDMA READ into the doorbells rings them until a reset, and never after it."""
    local = importer.attach(buffer).local()
    must_arrive(ring(nvme, local, watch), "before the reset an RDMA READ into the MR rings the doorbell")
    nvme.device.reset()
    nvme.start()
    result = ring_once(nvme.queue_identify(), local, watch)
    must_be_blocked(result, "after the reset an RDMA READ into the MR does not reach the device")


@rows("importers.rdma-rkey")
@importers("rxe")
def test_the_key_of_the_dead_is_not_reused(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """While a revoked MR is registered no new MR gets its rkey, and its use is refused."""
    dead = importer.attach(cmb_buffer)
    nvme.device.reset()
    cmb = nvme.cmb()  # the reset has disabled it
    live = [importer.attach(cmb_buffer) for _ in range(NEW_REGIONS)]
    keys = [window.rkey() for window in live]
    must(dead.rkey() not in keys, "no new MR gets a revoked MR's rkey", f"{dead.rkey():#x} among {len(keys)}")
    must(len(set(keys)) == NEW_REGIONS, "each MR has an rkey of its own", sorted(keys))
    nvme.device.write(cmb.region, cmb.offset, b"live")
    found = statuses(dead)
    must(found == [REMOTE] * 2, "a revoked MR's rkey is refused next to those of new MRs", found)
    must(live[-1].read(0, 4) == b"live", "a new MR reaches the buffer")


OUTSIDE = [(0, (PAGES + 1) * PAGE), (PAGE, PAGES * PAGE), (PAGES * PAGE, PAGE), (0, 0), (U64 - PAGE, PAGE)]
"""(offset, length): no part of the buffer."""


@rows("importers.rdma-bounds")
@importers("rxe")
def test_a_region_lies_within_its_buffer(cmb_buffer: DmaBuf, importer: Importer) -> None:
    """An MR must lie within its buffer, and reaches nothing beyond its own end."""
    for start, length in OUTSIDE:
        with must_fail("EINVAL", f"{length:#x} bytes from {start:#x} of {PAGES * PAGE:#x} are no MR"):
            importer.attach(cmb_buffer, start, length)
    window = importer.attach(cmb_buffer, PAGE, 2 * PAGE)
    seen = window.read(PAGE - 4, 8)
    must(seen == b"\1" * 4 + b"\2" * 4, "an MR of pages 1 and 2 reads pages 1 and 2", seen.hex())
    found = statuses(window, 2 * PAGE - 2)
    must(found == [REMOTE] * 2, "access beyond the end of an MR is refused", found)


@rows("importers.rdma-rkey")
@importers("rxe")
def test_a_dead_region_can_be_deregistered(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """An MR can be deregistered while it is live, once it is revoked, and after device and dma-buf are closed."""
    early, revoked, late = (importer.attach(buffer) for _ in range(3))
    early.detach()
    nvme.device.reset()
    revoked.detach()
    nvme.device.close()
    buffer.close()
    must(len(session.bufinfo()) == 1, "a dead MR keeps its dma-buf", session.bufinfo())
    late.detach()
    must(not session.bufinfo(), "the last deregistration releases the dma-buf", session.bufinfo())
    reopened = session.open_nvme()
    result = ring(reopened, importer.attach(reopened.export_doorbells()), watch)
    must_arrive(result, "after the deregistration the device can be reopened, exported and registered")

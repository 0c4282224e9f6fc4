# SPDX-License-Identifier: GPL-2.0-only
"""RDMA as an importer: what an MR over a dma-buf answers once it is revoked, from either side, and how it ends."""

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.errors import ImporterRefused
from harness.session import DmaBuf, Importer, Nvme, Session, Window
from harness.witness import Watch

PAGE = 0x1000
PAGES = 4
TOP = 1 << 64
REMOTE, LOCAL = "IBV_WC_REM_ACCESS_ERR", "IBV_WC_LOC_PROT_ERR"
NEW_REGIONS = 8

by_rxe = pytest.mark.parametrize("importer", ["rxe"], indirect=True)


def rows(*names: str) -> pytest.MarkDecorator:
    """The rows of section 3 of the contract that a case covers."""
    return pytest.mark.contract("rdma", *(f"importers.{name}" for name in names))


@pytest.fixture
def buffer(nvme: Nvme) -> DmaBuf:
    """Four pages of the CMB of the controller under test; each byte is its page's number."""
    cmb = nvme.cmb()
    for page in range(PAGES):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]) * PAGE)
    return nvme.device.export(cmb.region, [(cmb.offset, PAGES * PAGE)])


def refusals(window: Window, offset: int = 0) -> list[str]:
    """What 4 bytes, read and written at ``offset``, end with."""
    found = []
    for transfer in (lambda: window.read(offset, 4), lambda: window.write(offset, b"\xff" * 4)):
        try:
            transfer()
        except ImporterRefused as refusal:
            found.append(str(refusal))
        else:
            found.append("IBV_WC_SUCCESS")
    return found


@rows("rdma-remote")
@by_rxe
def test_a_revoked_region_refuses_its_peer(nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """RDMA READ and WRITE of a revoked MR end with a remote access error, during the revoke and after it for good."""
    window = importer.attach(buffer)
    must(window.read(2 * PAGE, 4) == b"\2" * 4, "before the revoke the MR is live")
    nvme.device.set_memory(False)
    seen = refusals(window)
    must(seen == [REMOTE] * 2, "READ and WRITE of a revoked MR are remote access errors", seen)
    nvme.device.set_memory(True)
    seen = refusals(window)
    must(seen == [REMOTE] * 2, "a revoked MR stays dead once the buffer is back", seen)
    must(nvme.device.read(nvme.cmb().region, nvme.cmb().offset, 4) == bytes(4), "what was refused wrote nothing")
    must(importer.attach(buffer).read(2 * PAGE, 4) == b"\2" * 4, "a new MR of the same fd is live")


@rows("rdma-local")
@by_rxe
def test_a_revoked_region_refuses_its_owner(nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """A revoked MR as the local side of RDMA ends that with a local protection error, whether it gives or takes."""
    local = importer.attach(buffer).local()
    must(local.read(2 * PAGE, 4) == b"\2" * 4, "before the revoke the MR gives data")
    local.write(PAGE, b"data")
    seen = nvme.device.read(nvme.cmb().region, nvme.cmb().offset + PAGE, 4)
    must(seen == b"data", "before the revoke the MR takes data", seen)
    nvme.device.set_memory(False)
    found = refusals(local)
    must(found == [LOCAL] * 2, "local use of a revoked MR is a local protection error", found)
    nvme.device.set_memory(True)
    found = refusals(local)
    must(found == [LOCAL] * 2, "local use of a revoked MR stays an error once the buffer is back", found)


@rows("rdma-local")
@by_rxe
def test_local_use_rings_and_is_revoked(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """What RDMA READ puts into the doorbells rings them, until a reset; then it does not."""
    local = importer.attach(nvme.export_doorbells()).local()
    must_arrive(ring(nvme, local, watch), "before the reset an RDMA READ into the MR rings the doorbell")
    nvme.device.reset()
    nvme.start()
    result = ring_once(nvme.queue_identify(), local, watch)
    must_be_blocked(result, "after the reset an RDMA READ into the MR does not reach the device")


@rows("rdma-rkey")
@by_rxe
def test_the_key_of_the_dead_is_not_reused(nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """As long as a revoked MR is registered its rkey is nobody else's: no new MR has it, and using it is refused."""
    dead = importer.attach(buffer)
    nvme.device.reset()
    cmb = nvme.cmb()
    live = [importer.attach(buffer) for _ in range(NEW_REGIONS)]
    keys = [window.rkey() for window in live]
    must(dead.rkey() not in keys, "no new MR gets a revoked MR's rkey", f"{dead.rkey():#x} among {len(keys)}")
    must(len(set(keys)) == NEW_REGIONS, "each MR has an rkey of its own", sorted(keys))
    nvme.device.write(cmb.region, cmb.offset, b"live")
    seen = refusals(dead)
    must(seen == [REMOTE] * 2, "a revoked MR's rkey is refused beside those of new MRs", seen)
    must(live[-1].read(0, 4) == b"live", "a new MR reaches the buffer")


BEYOND = [(0, (PAGES + 1) * PAGE), (PAGE, PAGES * PAGE), (PAGES * PAGE, PAGE), (0, 0), (TOP - PAGE, PAGE)]
"""(offset, length): no part of the buffer."""


@rows("rdma-bounds")
@by_rxe
def test_a_region_lies_within_its_buffer(buffer: DmaBuf, importer: Importer) -> None:
    """An MR is a part of its buffer, or refused; what it is a part of cannot be reached beyond it."""
    for start, length in BEYOND:
        with must_fail("EINVAL", f"{length:#x} bytes from {start:#x} of {PAGES * PAGE:#x} are no MR"):
            importer.attach(buffer, start, length)
    window = importer.attach(buffer, PAGE, 2 * PAGE)
    seen = window.read(PAGE - 4, 8)
    must(seen == b"\1" * 4 + b"\2" * 4, "an MR of pages 1 and 2 reads pages 1 and 2", seen.hex())
    found = refusals(window, 2 * PAGE - 2)
    must(found == [REMOTE] * 2, "nothing is reached beyond the end of an MR", found)


@rows("rdma-rkey")
@by_rxe
def test_a_dead_region_can_be_deregistered(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """An MR is deregistered alike while it lives, once it is revoked, and after device and dma-buf are closed."""
    buffer = nvme.export_doorbells()
    early, revoked, late = (importer.attach(buffer) for _ in range(3))
    early.detach()
    nvme.device.reset()
    revoked.detach()
    nvme.device.close()
    buffer.close()
    must(len(session.bufinfo()) == 1, "a dead MR keeps its dma-buf", session.bufinfo())
    late.detach()
    must(not session.bufinfo(), "the last deregistration lets go of the dma-buf", session.bufinfo())
    again = session.open_nvme()
    result = ring(again, importer.attach(again.export_doorbells()), watch)
    must_arrive(result, "then the device can be opened, exported and registered anew")

# SPDX-License-Identifier: GPL-2.0-only
"""The RDMA core as an importer (drivers/infiniband/core/umem_dmabuf.c), as the driver of a hardware RNIC uses it."""

import time

import pytest

from harness.cases.constants import PAGE, U64, UNDER_TEST
from harness.cases.marks import rows_in
from harness.cases.must import must, must_fail
from harness.cases.types import Attach
from harness.errors import KernelErrno
from harness.session import HOLD_MS, DmaBuf, FenceUsage, Nvme, Session, UmemKind
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS

rows = rows_in("umem")
pytestmark = pytest.mark.needs("importer_rules", "dma-api", "test_importer")

RNIC = "roce0"
"""The device of the importing driver, whose own driver does not use the importer."""
STDIN, CLOSED = 0, -1
"""Files of the agent: one that is no dma-buf, and none."""
BLOCKED_S = 0.2
"""Seconds for which a call that must wait is observed."""
PROMPT_S = HOLD_MS / 2000
"""Time limit in seconds for a call that must not wait for a fence, which the module signals after HOLD_MS."""


@pytest.fixture(autouse=True)
def rdma_core(session: Session, buffer: DmaBuf) -> None:
    """Skip the case if the kernel's RDMA core has no buffers that can be revoked."""
    try:
        session.umem(buffer, device_id=RNIC).detach()
    except KernelErrno as refusal:
        must(refusal.name == "EOPNOTSUPP", "the RDMA core can import a buffer that can be revoked", refusal)
        pytest.skip("this kernel's RDMA core has no pinned buffers that can be revoked")


EXPORTED = ((3, 1), (0, 2), (2, 1))
"""(page of BAR 0, pages) of each range: out of order, so that each is an SG entry of its own."""
PARTS = {
    (0, 4 * PAGE): [(3, 1), (0, 2), (2, 1)],
    (0, PAGE): [(3, 1)],
    (PAGE, PAGE): [(0, 1)],
    (2 * PAGE, PAGE): [(1, 1)],
    (3 * PAGE, PAGE): [(2, 1)],
    (PAGE, 2 * PAGE): [(0, 2)],
    (2 * PAGE, 2 * PAGE): [(1, 1), (2, 1)],
    (0, 2 * PAGE): [(3, 1), (0, 1)],
    (PAGE + 8, 16): [(0, 1)],
    (3 * PAGE - 8, 16): [(1, 1), (2, 1)],
    (8, 4 * PAGE - 16): [(3, 1), (0, 2), (2, 1)],
}
"""(offset, length) in the buffer, and the pages of BAR 0 that a driver must be given, one pair for each SG entry."""


@pytest.mark.needs("many_ranges")
@rows("importers.umem-part")
@pytest.mark.parametrize("kind", ["revocable", "dynamic"])
def test_a_driver_gets_the_pages_of_its_part(session: Session, nvme: Nvme, kind: UmemKind) -> None:
    """A driver gets the whole pages of its part of a buffer, in order and nothing else, also at its next map."""
    start = bars(session, UNDER_TEST)[REGISTERS].start
    scattered = nvme.device.export(REGISTERS, [(page * PAGE, pages * PAGE) for page, pages in EXPORTED])
    for (offset, length), pages in PARTS.items():
        # A device's own BAR has bus addresses, one SG entry for each range, on every machine.
        part = session.umem(scattered, device_id=UNDER_TEST, offset=offset, length=length, kind=kind)
        for _ in range(2):
            if kind == "dynamic":
                part.map()
            found = [((entry.address - start) / PAGE, entry.length / PAGE) for entry in part.table().entries]
            must(found == pages, f"a part of {length:#x} bytes at {offset:#x} is made of its pages", found)
            if kind == "dynamic":
                part.unmap()
        part.detach()


OUTSIDE = [(0, 2 * PAGE), (PAGE, PAGE), (8, PAGE), (U64 - PAGE, 2 * PAGE), (U64 - 1, 1), (0, 0), (PAGE, 0)]
"""(offset, length): no part of a buffer of one page; an end that overflows."""


@rows("importers.umem-refused")
@pytest.mark.parametrize("kind", ["revocable", "dynamic", "pinned"])
def test_a_refused_part_keeps_nothing(session: Session, nvme: Nvme, buffer: DmaBuf, kind: UmemKind) -> None:
    """The RDMA core refuses what is no part of a dma-buf, or has no route, and keeps neither mapping nor reference."""
    for offset, length in OUTSIDE:
        with must_fail("EINVAL", f"{length:#x} bytes from {offset:#x} are no part of a page"):
            session.umem(buffer, device_id=RNIC, offset=offset, length=length, kind=kind)
    for file, errno in ((STDIN, "EINVAL"), (CLOSED, "EBADF")):
        with must_fail(errno, "a file that is no dma-buf is refused"):
            session.umem(file, device_id=RNIC, kind=kind)
    if kind == "pinned":
        with must_fail("EOPNOTSUPP", "a pinned part that cannot be revoked is refused"):
            session.umem(buffer, device_id=RNIC, kind=kind)
    elif kind == "revocable":
        with must_fail("EINVAL", "a part that is mapped at once needs a P2P route"):
            session.umem(buffer, device_id=None, kind=kind)
    else:
        routeless = session.umem(buffer, device_id=None, kind=kind)
        with must_fail("EINVAL", "a map needs a P2P route"):
            routeless.map()
        routeless.detach()
    nvme.device.set_memory(False)
    with must_fail("ENODEV", "a revoked buffer is refused"):
        session.umem(buffer, device_id=RNIC, kind=kind)
    nvme.device.set_memory(True)
    buffer.close()
    must(not session.bufinfo(), "a refused part keeps no reference to the dma-buf", session.bufinfo())


@rows("importers.rdma-core")
def test_the_driver_is_notified_before_the_unmap(session: Session, nvme: Nvme, buffer: DmaBuf) -> None:
    """The RDMA core notifies its driver while the part is mapped, unmaps it then, and never notifies it again."""
    revoked, own, released = (session.umem(buffer, device_id=RNIC) for _ in range(3))
    own.revoke()
    released.detach()
    nvme.device.set_memory(False)
    for part, why in ((revoked, "a revoke"), (own, "the driver's own revoke"), (released, "the release")):
        events = [(event.kind, event.result) for event in part.events()]
        must(events == [("notified", 1)], f"{why} notifies the driver once, of a part that is still mapped", events)
    for part in (revoked, own):
        with must_fail("EBADFD", "once its driver is notified a part is not mapped"):
            part.table()
    nvme.device.set_memory(True)
    with must_fail("EINVAL", "a revoked part cannot be mapped again"):
        revoked.map()
    must(session.umem(buffer, device_id=RNIC).table().nents == 1, "after the un-revoke a new part is mapped")


@rows("importers.umem-dynamic")
def test_a_dynamic_part_maps_again(session: Session, nvme: Nvme, buffer: DmaBuf) -> None:
    """A dynamic part is unmapped by the revoke, cannot be mapped while it lasts, and can be after it."""
    part = session.umem(buffer, device_id=RNIC, kind="dynamic")
    with must_fail("EBADFD", "a dynamic part is not mapped by its import"):
        part.table()
    part.map()
    before = part.table()
    part.map()
    must(part.table() == before, "a second map of a mapped part changes nothing", part.table())
    nvme.device.set_memory(False)
    with must_fail("EBADFD", "a revoke unmaps a dynamic part"):
        part.table()
    with must_fail("ENODEV", "while a buffer is revoked its parts cannot be mapped"):
        part.map()
    nvme.device.set_memory(True)
    part.map()
    must(part.table().nents == 1, "after the un-revoke a dynamic part is mapped again", part.table())
    seen = [(event.kind, event.result) for event in part.events()]
    expected = [("mapped", 0), ("mapped", 0), ("notified", 1), ("mapped", -19), ("notified", 0), ("mapped", 0)]
    must(seen == expected, "revoke and un-revoke notify a dynamic part's driver once each", seen)


@rows("importers.umem-fence")
@pytest.mark.parametrize("usage", ["kernel", "write"])
def test_a_map_waits_for_the_kernels_fence(session: Session, buffer: DmaBuf, attach: Attach, usage: FenceUsage) -> None:
    """A part is mapped once the exporter's fence (KERNEL) is signalled; fences of other users do not delay it."""
    holder, dynamic = attach(buffer), session.umem(buffer, device_id=RNIC, kind="dynamic")
    for what, call in (("the import of a pinned part", pin_part), ("the map of a dynamic part", dynamic.map)):
        holder.fence(usage)
        pending = session.start(call, *((session, buffer) if call is pin_part else ()))
        try:
            if usage == "kernel":
                holder.wait_notified(1, BLOCKED_S / session.machine.slowdown)
                must(not pending.done(), f"{what} waits for the exporter's fence")
            else:
                began = time.monotonic()
                pending.result()
                took = time.monotonic() - began
                must(took < PROMPT_S, f"{what} waits for no fence of another user", f"{took:.1f} s")
        finally:
            holder.signal()
        pending.result()
    must(dynamic.table().nents == 1, "once the fence is signalled the part is mapped", dynamic.table())


def pin_part(session: Session, buffer: DmaBuf) -> None:
    """Import a whole buffer as a pinned part, and release it."""
    session.umem(buffer, device_id=RNIC).detach()

# SPDX-License-Identifier: GPL-2.0-only
"""The registration of an MR over a dma-buf: its arguments, its access flags, and the life of its protection domain."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from harness.cases.constants import PAGE, U64
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.cases.types import Attach
from harness.errors import ImporterRefused
from harness.session import HOLD_MS, DmaBuf, Importer, Nvme, Session, Window
from harness.session.importers import (
    IB_ACCESS_ALL,
    IB_ACCESS_LOCAL_WRITE,
    IB_ACCESS_ON_DEMAND,
    IB_ACCESS_RELAXED_ORDERING,
    IB_ACCESS_REMOTE_ATOMIC,
    IB_ACCESS_REMOTE_READ,
    IB_ACCESS_REMOTE_WRITE,
)
from harness.witness import Watch

rows = rows_in("rdma")

STDIN, CLOSED = 0, -1
"""Files of the agent: one that is no dma-buf, and none."""
FAR = 0x7F00_0000_0000
"""An address that is no offset in any buffer."""


@rows("importers.rdma-access")
@importers("rxe")
def test_access_flags_bind_the_peer(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An MR without REMOTE_WRITE refuses a peer's write, and one without REMOTE_READ refuses a peer's read."""
    full = importer.register(buffer, length=PAGE)
    readable = importer.register(buffer, length=PAGE, access=IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_READ)
    writable = importer.register(buffer, length=PAGE, access=IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE)
    must_arrive(ring(nvme, full, watch), "an MR with every access lets a peer write")
    must_be_blocked(ring(nvme, readable, watch), "an MR without REMOTE_WRITE refuses a peer's write")
    must_arrive(ring(nvme, writable, watch), "an MR with REMOTE_WRITE alone lets a peer write")
    must(len(readable.read(0, 4)) == 4, "an MR with REMOTE_READ lets a peer read")
    status = read_status(writable)
    must(status == "IBV_WC_REM_ACCESS_ERR", "an MR without REMOTE_READ refuses a peer's read", status)


@rows("importers.rdma-access")
@importers("rxe")
def test_access_flags_bind_the_owner(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An MR without LOCAL_WRITE takes no data of its owner's reads, and lets its owner send from it."""
    readable = importer.register(buffer, length=PAGE, access=IB_ACCESS_REMOTE_READ).local()
    must_be_blocked(ring(nvme, readable, watch), "an MR without LOCAL_WRITE is no destination of an RDMA READ")
    must(len(readable.read(0, 4)) == 4, "an MR without LOCAL_WRITE is a source of an RDMA WRITE")
    writable = importer.register(buffer, length=PAGE, access=IB_ACCESS_LOCAL_WRITE).local()
    must_arrive(ring(nvme, writable, watch), "an MR with LOCAL_WRITE is a destination of an RDMA READ")


LISTED = 3 * PAGE
"""Bytes of an MR, as no other has."""


def read_status(window: Window, offset: int = 0) -> str:
    """Read 4 bytes. Returns the bad status, or "it was read"."""
    try:
        window.read(offset, 4)
    except ImporterRefused as refused:
        return str(refused)
    return "it was read"


@rows("importers.rdma-iova")
@importers("rxe")
def test_an_address_is_not_an_offset(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """An MR's address for RDMA is free, but for its place in the page; its bytes are those at its offset."""
    for start, length, iova in ((PAGE, 2 * PAGE, FAR), (3 * PAGE - 8, 16, FAR + PAGE - 8), (2 * PAGE, PAGE, 0)):
        window = importer.register(cmb_buffer, start=start, length=length, iova=iova)
        expected = bytes((start + at) // PAGE for at in range(length))
        found = window.read(0, length)
        must(found == expected, f"an MR at {iova:#x} has the bytes from {start:#x} of its buffer", found[:8].hex())
        status = read_status(window, length - 2)
        must(status == "IBV_WC_REM_ACCESS_ERR", f"an MR at {iova:#x} ends after {length:#x} bytes", status)
    for iova in (FAR + 8, PAGE - 1):
        with must_fail("EINVAL", f"{iova:#x} is elsewhere in its page than the MR's offset"):
            importer.register(cmb_buffer, start=PAGE, length=PAGE, iova=iova)


BAD_ACCESS = {
    1 << 31: "EINVAL",
    IB_ACCESS_ALL | IB_ACCESS_ON_DEMAND: "EINVAL",
    IB_ACCESS_REMOTE_WRITE: "EINVAL",
    IB_ACCESS_REMOTE_ATOMIC: "EINVAL",
}
"""Flags that no MR may have; a remote write or atomic needs LOCAL_WRITE (include/rdma/ib_verbs.h)."""
GOOD_ACCESS = [0, IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_ATOMIC, IB_ACCESS_ALL | IB_ACCESS_RELAXED_ORDERING]


REQUIRED = ("domain", "length", "iova", "lkey", "rkey")
"""Attributes that both methods need."""


def must_check_arguments(buffer: DmaBuf, register: Callable[..., Window], required: set[str]) -> None:
    """State that a method refuses bad arguments and keeps nothing. ``required``: its attributes besides REQUIRED."""
    for access, errno in BAD_ACCESS.items():
        with must_fail(errno, f"access flags {access:#x} are refused"):
            register(buffer, length=PAGE, access=access)
    for file, errno in ((STDIN, "EINVAL"), (CLOSED, "EBADF")):
        with must_fail(errno, "a file that is no dma-buf is refused"):
            register(file, length=PAGE)
    for name in sorted({*REQUIRED, *required}):
        with must_fail("EINVAL", f"a registration without its {name} is refused"):
            register(buffer, length=PAGE, without=[name])
    for name in ("lkey", "rkey"):
        with must_fail("EFAULT", f"a registration that cannot return its {name} is refused"):
            register(buffer, length=PAGE, unwritable=name)
    with must_fail("EINVAL", "a length that passes the last address is refused"):
        register(buffer, start=PAGE, length=U64 - PAGE, iova=0)
    for access in GOOD_ACCESS:
        register(buffer, length=PAGE, access=access).detach()


@rows("importers.rdma-arguments")
@importers("rxe")
def test_arguments_are_checked(session: Session, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """A registration with a bad flag, a bad file or a missing attribute is refused, and keeps no reference."""
    must_check_arguments(cmb_buffer, importer.register, {"start", "fd"})
    importer.register(cmb_buffer, length=PAGE, without=["access"]).detach()
    cmb_buffer.close()
    must(not session.bufinfo(), "no refused registration keeps the dma-buf", session.bufinfo())


@pytest.mark.needs("reg_mr")
@rows("importers.rdma-reg-mr")
@importers("rxe")
def test_arguments_of_the_other_method(session: Session, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """REG_MR checks what REG_DMABUF_MR does; it takes a fd with its offset, or an address, and no other combination."""
    register = partial(importer.register, verb="UVERBS_METHOD_REG_MR")
    must_check_arguments(cmb_buffer, register, {"start", "access"})
    address = importer.memory()
    refused: dict[str, dict[str, Any]] = {
        "a fd and an address": {"extra": {"address": address}},
        "a fd, an address and no offset": {"extra": {"address": address}, "without": ["start"]},
        "an address and an offset": {"extra": {"address": address}, "without": ["fd"]},
        "an offset without a fd": {"without": ["fd"]},
        "neither a fd nor an address": {"without": ["fd", "start"]},
        "an address elsewhere in its page": {"extra": {"address": address + 8}, "without": ["fd", "start"]},
        "an offset elsewhere in its page": {"start": PAGE, "iova": FAR + 8},
    }
    for what, arguments in refused.items():
        with must_fail("EINVAL", f"REG_MR of {what} is refused"):
            register(cmb_buffer, **{"length": PAGE, "iova": 0, **arguments})
    register(cmb_buffer, length=PAGE, iova=0, extra={"address": address}, without=["fd", "start"]).detach()
    cmb_buffer.close()
    must(not session.bufinfo(), "no registration by REG_MR keeps the dma-buf", session.bufinfo())


@pytest.mark.needs("reg_mr")
@rows("importers.rdma-reg-mr", "importers.rdma-remote", "importers.rdma-local")
@importers("rxe")
def test_the_other_method_is_revoked(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An MR that REG_MR makes of a dma-buf reaches the device until a revoke, and is refused while that lasts."""
    register = partial(importer.register, buffer, length=PAGE, iova=FAR, verb="UVERBS_METHOD_REG_MR")
    window = register()
    must_arrive(ring(nvme, window, watch), "an MR by REG_MR reaches the device, from a peer")
    must_arrive(ring(nvme, window.local(), watch), "an MR by REG_MR reaches the device, from its owner")
    readable = register(access=IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_READ)
    must_be_blocked(ring(nvme, readable, watch), "an MR by REG_MR without REMOTE_WRITE refuses a peer's write")
    nvme.device.set_memory(False)
    with must_fail("ENODEV", "while a revoke lasts REG_MR is refused"):
        register()
    nvme.device.set_memory(True)
    must_be_blocked(ring(nvme, window, watch), "after a revoke an MR by REG_MR is dead for its peer")
    must_be_blocked(ring(nvme, window.local(), watch), "after a revoke an MR by REG_MR is dead for its owner")
    must_arrive(ring(nvme, register(), watch), "after the un-revoke REG_MR of the same fd succeeds")


@rows("importers.rdma-listed")
@importers("rxe")
def test_a_region_is_listed(nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer) -> None:
    """The kernel lists an MR over a dma-buf as a resource of its device, dead or alive, until it is deregistered."""
    region = importer.register(cmb_buffer, length=LISTED)
    for state in ("a live", "a dead"):
        found = importer.listed()
        must(found.count(LISTED) == 1, f"{state} MR is listed with its length", found)
        nvme.device.set_memory(False)
    region.detach()
    must(LISTED not in (found := importer.listed()), "an MR that was deregistered is not listed", found)


@rows("importers.rdma-domain")
@importers("rxe")
def test_a_domain_outlives_its_regions(cmb_buffer: DmaBuf, importer: Importer) -> None:
    """A protection domain cannot be deallocated while it has an MR, dead or alive, and can be after it."""
    domain = importer.protection_domain()
    region = importer.register(cmb_buffer, length=PAGE, domain=domain)
    with must_fail("EBUSY", "a protection domain with an MR cannot be deallocated"):
        domain.deallocate()
    region.detach()
    domain.deallocate()


@rows("importers.rdma-domain", "lifecycle.waits")
@importers("rxe")
def test_a_region_can_go_while_a_revoke_waits(
    session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer
) -> None:
    """While a revoke waits for another importer, an MR is dead, can be deregistered, and cannot be registered."""
    going, staying = importer.attach(buffer), importer.attach(buffer)
    holder = attach(buffer, device_id="edu0", delay_ms=HOLD_MS)
    holder.map()
    reset = session.start(nvme.device.reset)
    try:
        must(holder.wait_notified(), "a reset notifies the importer", holder.events())
        going.detach()
        status = read_status(staying)
        must(status == "IBV_WC_REM_ACCESS_ERR", "while a revoke waits an MR is dead", status)
        with must_fail("ENODEV", "while a revoke waits no MR can be registered"):
            importer.attach(buffer)
        must(not reset.done(), "the deregistration of an MR does not end the wait for another importer")
    finally:
        holder.close()
        reset.result()
    staying.detach()
    importer.attach(buffer)

# SPDX-License-Identifier: GPL-2.0-only
"""RDMA into a dma-buf: rxe, from one queue pair to another on the same device.

pyverbs drives everything except the registration of the dma-buf, which rdma-core's rxe provider does not have. That is
an ioctl of uverbs, with either of two methods: UVERBS_METHOD_REG_DMABUF_MR, and in newer kernels UVERBS_METHOD_REG_MR,
which also registers memory (drivers/infiniband/core/uverbs_std_types_mr.c).
"""

import ctypes
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pyverbs.enums as e
from pyverbs.addr import GID, AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

from .dmabuf import DmaBuf
from .engine import Window
from .kernel import Ioctl, ioctl
from .poll import wait_value
from .rdma_link import add_rxe, ipv4_gid, netdev
from .resource import Resource
from .rpc import Refused
from .uapi import verbs as uapi

CHUNK = 256 << 10  # longest transfer of one work request, in bytes
COMPLETION_SECONDS = 10.0
TOOL_SECONDS = 10.0
ACCESS = uapi.IB_UVERBS_ACCESS_LOCAL_WRITE | uapi.IB_UVERBS_ACCESS_REMOTE_WRITE | uapi.IB_UVERBS_ACCESS_REMOTE_READ


LINK = "rxe0"
"""The name of the rxe device."""


class Rxe(Resource):
    """The RDMA device ``link`` with a protection domain, a local buffer, and two connected queue pairs."""

    def __init__(self, link: str) -> None:
        super().__init__()
        self._link = link
        self._gid_index, self.gid = ipv4_gid(link)
        self.context = self._keep(Context(name=link))
        self.domain = self._keep(PD(self.context))
        self._buffer = self._keep(MR(self.domain, CHUNK, ACCESS))
        self._completions = self._keep(CQ(self.context, 16))
        self._pair: tuple[Any, Any] | None = None
        self._undo.callback(self._disconnect)
        # With lockdep the socket of a queue pair holds rxe's module (sk_owner_set), and the session compares references
        # from case to case. So there is always a pair.
        self._connected()

    def _keep(self, thing: Any) -> Any:
        self._undo.callback(thing.close)
        return thing

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "MrWindow":
        """Register part of ``dmabuf`` as an MR. Errors are those of UVERBS_METHOD_REG_DMABUF_MR."""
        values = {"start": start, "length": length, "iova": start, "access": ACCESS}
        return MrWindow(self, REG_DMABUF_MR, values | {"domain": self.domain.handle, "fd": dmabuf.fd})

    def register(
        self,
        file: DmaBuf | int,
        *,
        verb: str,
        values: Mapping[str, int],
        domain: "ProtectionDomain | None" = None,
        without: Sequence[str] = (),
        unwritable: str = "",
    ) -> "MrWindow":
        """Register an MR with arguments that ``attach`` chooses itself. ``file``: a dma-buf, or the fd of any file.

        ``verb``: a key of ``VERBS``. ``values``: of its attributes, by their names there, but for "fd" and "domain".
        ``without``: attributes to leave out. ``unwritable``: one of a key ("lkey", "rkey") for which the kernel gets
        an address that it cannot write.
        """
        fd = file if isinstance(file, int) else file.fd
        owner = domain.domain if domain else self.domain
        chosen = {**values, "domain": owner.handle, "fd": fd}
        given = {name: value for name, value in chosen.items() if name not in without}
        return MrWindow(self, VERBS[verb], given, without, unwritable)

    def memory(self) -> int:
        """Return the address of the local buffer, which begins a page."""
        return int(self._buffer.buf)

    def listed(self) -> list[dict[str, Any]]:
        """Return the MRs of the device, as the kernel lists its resources (RDMA_NLDEV_CMD_RES_MR_GET)."""
        command = ["rdma", "-j", "resource", "show", "mr"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return [each for each in json.loads(done.stdout or "[]") if each["ifname"] == self._link]

    def transfer(self, opcode: int, address: int, rkey: int, data: bytes | int) -> bytes:
        """Run one RDMA WRITE of ``data``, or READ of that many bytes, at ``address`` of the MR ``rkey``.

        Raises Refused with the work completion's status, after it has made new queue pairs.
        """
        length = data if isinstance(data, int) else len(data)
        if not isinstance(data, int):
            self._buffer.write(data, length)
        self._run(opcode, SGE(self._buffer.buf, length, self._buffer.lkey), address, rkey)
        return bytes(self._buffer.read(length, 0)) if isinstance(data, int) else b""

    def scatter(self, address: int, lkey: int, data: bytes) -> None:
        """Run one RDMA READ of the local buffer, whose response goes to ``address`` of the MR ``lkey``."""
        self._buffer.write(data, len(data))
        self._run(e.IBV_WR_RDMA_READ, SGE(address, len(data), lkey), self._buffer.buf, self._buffer.rkey)

    def gather(self, address: int, lkey: int, length: int) -> bytes:
        """Run one RDMA WRITE to the local buffer, whose data comes from ``address`` of the MR ``lkey``."""
        self._run(e.IBV_WR_RDMA_WRITE, SGE(address, length, lkey), self._buffer.buf, self._buffer.rkey)
        return bytes(self._buffer.read(length, 0))

    def _run(self, opcode: int, local: Any, address: int, rkey: int) -> None:
        post(self._connected(), opcode, local, address, rkey)
        if status := wait_completion(self._completions):
            self._disconnect()
            with suppress(PyverbsRDMAError):  # the device may be gone
                self._connected()
            raise Refused(status)

    def _connected(self) -> Any:
        """Return the requester's queue pair, connected."""
        if self._pair is None:
            self._pair = self.connected_pair(self._completions, 4)
        return self._pair[0]

    def connected_pair(self, completions: Any, queued: int) -> tuple[Any, Any]:
        """Make two connected queue pairs, with room for ``queued`` work requests. The caller closes them."""
        first, second = self.queue_pair(completions, queued), self.queue_pair(completions, queued)
        first.to_rts(self.connection(second.qp_num, self.gid))
        second.to_rts(self.connection(first.qp_num, self.gid))
        return first, second

    def _disconnect(self) -> None:
        if self._pair is not None:
            for pair in self._pair:
                pair.close()
            self._pair = None

    def queue_pair(self, completions: Any, queued: int) -> Any:
        """Make a queue pair that is not connected. The caller closes it."""
        capacity = QPCap(max_send_wr=queued, max_recv_wr=1, max_send_sge=1, max_recv_sge=1)
        init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=completions, rcq=completions, cap=capacity)
        attributes = QPAttr(port_num=1)
        attributes.qp_access_flags = ACCESS
        return QP(self.domain, init, attributes)

    def connection(self, number: int, gid: str) -> Any:
        """Return the attributes that connect a queue pair to ``number`` of the device with the address ``gid``.

        Retries last about 4 s, since emulation may be slow.
        """
        attributes = QPAttr(port_num=1)
        attributes.qp_access_flags = ACCESS
        attributes.dest_qp_num = number
        attributes.path_mtu = e.IBV_MTU_1024
        attributes.max_rd_atomic = attributes.max_dest_rd_atomic = 1
        attributes.min_rnr_timer = 12
        attributes.timeout = 17
        attributes.retry_cnt = attributes.rnr_retry = 7
        route = GlobalRoute(dgid=GID(gid), sgid_index=self._gid_index)
        attributes.ah_attr = AHAttr(port_num=1, is_global=1, gr=route, dlid=0)
        return attributes


def post(pair: Any, opcode: int, local: Any, address: int, rkey: int) -> None:
    """Post one signalled work request. ``local``: its SGE. ``address`` and ``rkey``: the remote side."""
    request = SendWR(opcode=opcode, num_sge=1, sg=[local], send_flags=e.IBV_SEND_SIGNALED)
    request.set_wr_rdma(rkey, address)
    pair.post_send(request)


def wait_completion(queue: Any) -> str:
    """Wait for the next work completion. Returns its bad status; empty for success."""

    def polled() -> Any | None:
        _, completions = queue.poll(1)
        return completions[0] if completions else None

    status = wait_value(polled, COMPLETION_SECONDS, "RDMA work completion").status
    return uapi.WC_STATUS[status] if status else ""


UNMAPPED = 8
"""An address below vm.mmap_min_addr."""


class Verb(NamedTuple):
    """A method of the MR object that registers an MR."""

    method: Ioctl
    attributes: Mapping[str, tuple[int, int]]
    """The number and the length in bytes of each attribute. Length 0: a handle or a fd, which ``data`` holds.

    ``start``: the offset in the dma-buf. ``iova``: the address of the MR's first byte for RDMA. ``access``: enum
    ib_uverbs_access_flags. ``address``: of memory in this process.
    """

    def attribute(self, name: str, value: int) -> uapi.Attr:
        """Encode an attribute. ``value`` of a key ("lkey", "rkey"): the address of its response."""
        number, length = self.attributes[name]
        if name == "fd":
            value %= 1 << (8 * length or 64)  # the kernel's int, which may be -1
        return _attr(number, length, value)


REG_DMABUF_MR = Verb(
    uapi.UVERBS_METHOD_REG_DMABUF_MR,
    {
        "handle": (uapi.UVERBS_ATTR_REG_DMABUF_MR_HANDLE, 0),
        "domain": (uapi.UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, 0),
        "start": (uapi.UVERBS_ATTR_REG_DMABUF_MR_OFFSET, 8),
        "length": (uapi.UVERBS_ATTR_REG_DMABUF_MR_LENGTH, 8),
        "iova": (uapi.UVERBS_ATTR_REG_DMABUF_MR_IOVA, 8),
        "fd": (uapi.UVERBS_ATTR_REG_DMABUF_MR_FD, 4),
        "access": (uapi.UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, 4),
        "lkey": (uapi.UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, 4),
        "rkey": (uapi.UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, 4),
    },
)
REG_MR = Verb(
    uapi.UVERBS_METHOD_REG_MR,
    {
        "handle": (uapi.UVERBS_ATTR_REG_MR_HANDLE, 0),
        "domain": (uapi.UVERBS_ATTR_REG_MR_PD_HANDLE, 0),
        "dma-handle": (uapi.UVERBS_ATTR_REG_MR_DMA_HANDLE, 0),
        "iova": (uapi.UVERBS_ATTR_REG_MR_IOVA, 8),
        "address": (uapi.UVERBS_ATTR_REG_MR_ADDR, 8),
        "length": (uapi.UVERBS_ATTR_REG_MR_LENGTH, 8),
        "access": (uapi.UVERBS_ATTR_REG_MR_ACCESS_FLAGS, 4),
        "fd": (uapi.UVERBS_ATTR_REG_MR_FD, 0),
        "start": (uapi.UVERBS_ATTR_REG_MR_FD_OFFSET, 8),
        "lkey": (uapi.UVERBS_ATTR_REG_MR_RESP_LKEY, 4),
        "rkey": (uapi.UVERBS_ATTR_REG_MR_RESP_RKEY, 4),
    },
)
VERBS = {verb.method.name: verb for verb in (REG_DMABUF_MR, REG_MR)}


class ProtectionDomain(Resource):
    """A protection domain of its own. ``close`` deallocates it: EBUSY while it has an MR."""

    def __init__(self, rxe: Rxe) -> None:
        super().__init__()
        self.domain = PD(rxe.context)
        self._undo.callback(self.deallocate)

    def deallocate(self) -> None:
        """Call ibv_dealloc_pd. Does nothing once that has succeeded."""
        try:
            self.domain.close()
        except PyverbsRDMAError as refusal:
            raise OSError(refusal.error_code, os.strerror(refusal.error_code), "ibv_dealloc_pd") from None


class MrWindow(Window):
    """An MR over a dma-buf. ``close`` deregisters it."""

    def __init__(
        self, rxe: Rxe, verb: Verb, values: Mapping[str, int], without: Sequence[str] = (), unwritable: str = ""
    ) -> None:
        super().__init__()
        self._rxe = rxe
        self._start = values.get("iova", 0)
        lkey, rkey = ctypes.c_uint32(), ctypes.c_uint32()
        keys = {"lkey": ctypes.addressof(lkey), "rkey": ctypes.addressof(rkey)}
        if unwritable:
            keys[unwritable] = UNMAPPED
        given = {"handle": 0, **values, **{name: key for name, key in keys.items() if name not in without}}
        attributes = [verb.attribute(name, value) for name, value in given.items()]
        handle = _uverbs(rxe, verb.method, attributes)[0].data
        self._undo.callback(
            _uverbs, rxe, uapi.UVERBS_METHOD_MR_DESTROY, [_attr(uapi.UVERBS_ATTR_DESTROY_MR_HANDLE, 0, handle)]
        )
        self.lkey, self.rkey = lkey.value, rkey.value

    def address(self, offset: int) -> int:
        """Return the address of a byte of the MR for RDMA."""
        return self._start + offset

    def key(self) -> int:
        """Return the rkey."""
        return self.rkey

    def local(self) -> "LocalWindow":
        """Return the same bytes as the local side of a transfer."""
        return LocalWindow(self._rxe, self.lkey, self._start)

    def write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            self._rxe.transfer(e.IBV_WR_RDMA_WRITE, self._start + offset + at, self.rkey, data[at : at + CHUNK])

    def read(self, offset: int, length: int) -> bytes:
        chunks = ((at, min(CHUNK, length - at)) for at in range(0, length, CHUNK))
        return b"".join(
            self._rxe.transfer(e.IBV_WR_RDMA_READ, self._start + offset + at, self.rkey, count) for at, count in chunks
        )


class LocalWindow(Window):
    """An MR over a dma-buf as the local side of a transfer of up to ``CHUNK`` bytes; the other side is Rxe's buffer."""

    def __init__(self, rxe: Rxe, lkey: int, start: int) -> None:
        super().__init__()
        self._rxe = rxe
        self._lkey = lkey
        self._start = start

    def write(self, offset: int, data: bytes) -> None:
        self._rxe.scatter(self._start + offset, self._lkey, data)

    def read(self, offset: int, length: int) -> bytes:
        return self._rxe.gather(self._start + offset, self._lkey, length)


def add_link(bdf: str, link: str = LINK) -> tuple[str, int]:
    """Create the rxe device ``link`` over the NIC at ``bdf`` if needed. It stays.

    Returns its name, and the index of its GID with the NIC's IPv4 address."""
    add_rxe(link, netdev(bdf))
    return link, ipv4_gid(link)[0]


def open_rxe(bdf: str, link: str = LINK) -> Rxe:
    """Open the rxe device ``link`` over the NIC at ``bdf``. Creates it if needed."""
    add_link(bdf, link)
    return Rxe(link)


def _attr(number: int, length: int, value: int = 0) -> uapi.Attr:
    return uapi.Attr(attr_id=number, len=length, flags=uapi.UVERBS_ATTR_F_MANDATORY, data=value)


def _uverbs(rxe: Rxe, method: Ioctl, attributes: list[uapi.Attr]) -> list[uapi.Attr]:
    """Call a method of the MR object. Returns the attributes after the call."""
    header, size = ctypes.sizeof(uapi.Header), ctypes.sizeof(uapi.Attr)
    total = header + len(attributes) * size
    head = uapi.Header(
        length=total,
        object_id=uapi.UVERBS_OBJECT_MR,
        method_id=method.number,
        num_attrs=len(attributes),
        driver_id=uapi.RDMA_DRIVER_RXE,
    )
    buffer = bytearray(bytes(head) + b"".join(map(bytes, attributes)))
    ioctl(rxe.context.cmd_fd, Ioctl(method.name, uapi.RDMA_VERBS_IOCTL), buffer)
    return [uapi.Attr.from_buffer_copy(buffer, at) for at in range(header, total, size)]

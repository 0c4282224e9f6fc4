# SPDX-License-Identifier: GPL-2.0-only
"""RDMA between two guests: each has one end of the connection, on the rxe of the NIC that links them."""

import pyverbs.enums as e
from pyverbs.cq import CQ
from pyverbs.mr import MR
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.wr import SGE

from .engine import Window
from .poll import Stuck, poll
from .rdma_storm import QUEUED, Storm
from .resource import Resource
from .rpc import Refused
from .verbs import ACCESS, CHUNK, Rxe, post, wait_completion

RESOLVE_SECONDS = 10.0
"""Deadline of a connect. The kernel waits 1 s for the answer to an ARP request, and then gives up (addr.c,
rdma_addr_find_l2_eth_by_grh)."""


class End(Resource):
    """A queue pair whose other end is in the other guest. A refused request ends the connection."""

    def __init__(self, rxe: Rxe) -> None:
        super().__init__()
        self.rxe = rxe
        self._buffer = MR(rxe.domain, CHUNK, ACCESS)
        self._undo.callback(self._buffer.close)
        self.completions = CQ(rxe.context, 2 * QUEUED)
        self._undo.callback(self.completions.close)
        self.pair = rxe.queue_pair(self.completions, QUEUED)
        self._undo.callback(self.pair.close)

    def number(self) -> int:
        """Return the number of the queue pair."""
        return int(self.pair.qp_num)

    def gid(self) -> str:
        """Return the address of the RDMA device."""
        return self.rxe.gid

    def connect(self, number: int, gid: str) -> None:
        """Connect to the queue pair ``number`` of the device with the address ``gid``."""
        attributes = self.rxe.connection(number, gid)
        refusals = []

        def connected() -> bool:
            try:
                self.pair.to_rts(attributes)
            except PyverbsRDMAError as refusal:  # no answer to ARP yet
                refusals.append(refusal)
                return False
            return True

        if not poll(connected, RESOLVE_SECONDS):
            raise Stuck(f"no connection to {gid}: {refusals[-1]}")

    def reach(self, address: int, rkey: int, length: int) -> "RemoteWindow":
        """Return ``length`` bytes from ``address`` of the other guest's MR ``rkey``."""
        return RemoteWindow(self, address, rkey, length)

    def transfer(self, opcode: int, address: int, rkey: int, data: bytes | int) -> bytes:
        """Run one RDMA WRITE of ``data``, or READ of that many bytes. Raises Refused with the completion's status."""
        length = data if isinstance(data, int) else len(data)
        if not isinstance(data, int):
            self._buffer.write(data, length)
        post(self.pair, opcode, SGE(self._buffer.buf, length, self._buffer.lkey), address, rkey)
        if status := wait_completion(self.completions):
            raise Refused(status)
        return bytes(self._buffer.read(length, 0)) if isinstance(data, int) else b""


class RemoteWindow(Window):
    """An MR of the other guest."""

    def __init__(self, end: End, address: int, rkey: int, length: int) -> None:
        super().__init__()
        self._end = end
        self._address = address
        self._rkey = rkey
        self.length = length

    def write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            self._end.transfer(e.IBV_WR_RDMA_WRITE, self._address + offset + at, self._rkey, data[at : at + CHUNK])

    def read(self, offset: int, length: int) -> bytes:
        chunks = ((at, min(CHUNK, length - at)) for at in range(0, length, CHUNK))
        return b"".join(
            self._end.transfer(e.IBV_WR_RDMA_READ, self._address + offset + at, self._rkey, count)
            for at, count in chunks
        )


class RemoteStorm(Storm):
    """Writes one dword of the other guest's MR again and again. It uses ``end`` alone."""

    def __init__(self, end: End, address: int, rkey: int, value: int) -> None:
        Resource.__init__(self)
        self._begin(end.rxe, end.pair, end.completions, (address, rkey), value)

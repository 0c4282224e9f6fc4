# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the NVMe model: Identify, Create I/O Queue, Read and Write, by PRP or SGL.

Source: NVM Express Base Specification 1.4, sections 4.2 to 4.4, 5 and 6. A data transfer that is refused ends its
command with success, as in QEMU's own controller; the device's log has the refusal.
"""

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.device.model import DmaRefused

if TYPE_CHECKING:
    from harness.device.models.nvme import Nvme

SQE_SIZE = 64
SQE = struct.Struct("<BBHIQQQQ6I")
CQE = struct.Struct("<IIHHHH")
CREATE_SQ, CREATE_CQ, IDENTIFY = 0x01, 0x05, 0x06
WRITE, READ = 0x01, 0x02
SUCCESS, INVALID_OPCODE, INVALID_FIELD, INVALID_QUEUE, OUT_OF_RANGE = 0x00, 0x01, 0x02, 0x101, 0x80
BLOCK, BLOCK_SHIFT, PAGE = 512, 9, 4096
DRIVE_SIZE = 16 << 20
"""Of a controller without a drive, in bytes."""
USES_SGL = 0xC0
SGL_DATA, SGL_SEGMENT, SGL_LAST_SEGMENT = 0x0, 0x2, 0x3


@dataclass(frozen=True)
class Submission:
    """A submission queue entry."""

    opcode: int
    flags: int
    cid: int
    prp1: int
    prp2: int
    cdw10: int
    cdw11: int
    cdw12: int

    @classmethod
    def decode(cls, entry: bytes) -> "Submission":
        """Read an entry's 64 bytes."""
        opcode, flags, cid, _, _, _, prp1, prp2, cdw10, cdw11, cdw12, *_ = SQE.unpack(entry)
        return cls(opcode, flags, cid, prp1, prp2, cdw10, cdw11, cdw12)


@dataclass
class Queue:
    """A submission or completion queue. ``head`` of the first and ``tail`` of the second are the controller's."""

    address: int
    size: int
    """In entries."""
    head: int = 0
    tail: int = 0
    peer: int = 0
    """Of a submission queue: its completion queue."""
    vector: int | None = None
    """Of a completion queue: its interrupt."""
    phase: int = 1
    busy: bool = False
    """Whether a task fetches from it."""


class Commands:
    """Runs commands for a controller."""

    def __init__(self, controller: "Nvme", drive: Path | None) -> None:
        self._controller = controller
        self._drive = drive.open("r+b", buffering=0) if drive else None
        self._memory = bytearray(0 if drive else DRIVE_SIZE)
        self._size = drive.stat().st_size if drive else DRIVE_SIZE

    async def run(self, qid: int, command: Submission) -> tuple[int, int]:
        """Run a command; return its status and result. Raises DmaRefused only if the list of its data is unreadable."""
        if qid:
            return await self._transfer(command), 0
        match command.opcode:
            case 0x06:
                return await self._identify(command), 0
            case 0x05 | 0x01:
                return self._create(command), 0
        return INVALID_OPCODE, 0

    async def _identify(self, command: Submission) -> int:
        data = bytearray(PAGE)
        if command.cdw10 & 0xFF == 1:
            struct.pack_into("<HH20s40s8s", data, 0, 0x1B36, 0x1B36, b"vfio-harness", b"vfio-harness NVMe", b"1")
            struct.pack_into("<I", data, 516, 1)  # namespaces
        else:
            blocks = self._size >> BLOCK_SHIFT
            struct.pack_into("<QQQ", data, 0, blocks, blocks, blocks)
            data[130] = BLOCK_SHIFT
        await self._move(command, data, to_host=True)
        return SUCCESS

    def _create(self, command: Submission) -> int:
        qid, size = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1
        submission = command.opcode == CREATE_SQ
        queue = Queue(command.prp1, size)
        if submission:
            queue.peer = command.cdw11 >> 16
        elif command.cdw11 & 2:
            queue.vector = command.cdw11 >> 16
        return SUCCESS if self._controller.create_queue(submission, qid, queue) else INVALID_QUEUE

    async def _transfer(self, command: Submission) -> int:
        if command.opcode not in (READ, WRITE):
            return INVALID_OPCODE
        start = (command.cdw11 << 32 | command.cdw10) << BLOCK_SHIFT
        length = ((command.cdw12 & 0xFFFF) + 1) << BLOCK_SHIFT
        if start + length > self._size:
            return OUT_OF_RANGE
        data = bytearray(self._load(start, length))
        await self._move(command, data, to_host=command.opcode == READ)
        if command.opcode == WRITE:
            self._save(start, bytes(data))
        return SUCCESS

    async def _move(self, command: Submission, data: bytearray, *, to_host: bool) -> None:
        """Move ``data`` to the host, or fill it from there. A piece whose read is refused reads as ones."""
        at = 0
        async for address, length in self._pieces(command, len(data)):
            try:
                if to_host:
                    await self._controller.store(address, bytes(data[at : at + length]))
                else:
                    data[at : at + length] = await self._controller.fetch(address, length)
            except DmaRefused:  # the log has it
                if not to_host:
                    data[at : at + length] = b"\xff" * length
            at += length

    async def _pieces(self, command: Submission, length: int) -> AsyncIterator[tuple[int, int]]:
        """Yield address and length of each piece of the host's memory, ``length`` bytes in all."""
        if not command.flags & USES_SGL:
            first = min(length, PAGE - command.prp1 % PAGE)
            yield command.prp1, first
            if length > first:
                if length - first > PAGE:
                    raise NotImplementedError("PRP lists")
                yield command.prp2, length - first
            return
        segment = struct.pack("<QQ", command.prp1, command.prp2)
        while length:
            address, count, kind = struct.unpack("<QI3xB", segment[:16])
            segment = segment[16:]
            if kind >> 4 in (SGL_SEGMENT, SGL_LAST_SEGMENT):
                segment = await self._controller.fetch(address, count)
            else:
                count = min(count, length)
                yield address, count
                length -= count

    def _load(self, start: int, length: int) -> bytes:
        if not self._drive:
            return bytes(self._memory[start : start + length])
        self._drive.seek(start)
        return self._drive.read(length)

    def _save(self, start: int, data: bytes) -> None:
        if not self._drive:
            self._memory[start : start + len(data)] = data
            return
        self._drive.seek(start)
        self._drive.write(data)

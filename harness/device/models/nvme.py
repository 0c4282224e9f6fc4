# SPDX-License-Identifier: GPL-2.0-only
"""An NVMe controller, as far as the cases use one: registers, doorbells, queues, and a controller memory buffer.

Source: NVM Express Base Specification 1.4, sections 3.1 and 4. Doorbells are answered first and served by a task. What
the controller ignores is logged as QEMU's own controller traces it (QEMU hw/nvme/ctrl.c, ``nvme_process_db``).
"""

import struct
from pathlib import Path
from typing import ClassVar

from harness.device.config_space import Identity, Msix
from harness.device.model import DmaRefused, Model, Port
from harness.device.models.nvme_commands import CQE, SQE_SIZE, Commands, Queue, Submission

REGISTERS, CMB, TABLE = 0, 2, 4
"""The BARs: registers and doorbells, the CMB, the MSI-X table."""
CMB_SIZE = 16 << 20
CAP, VS, CC, CSTS, AQA, ASQ, ACQ, CMBLOC, CMBSZ, CMBMSC = 0x00, 0x08, 0x14, 0x1C, 0x24, 0x28, 0x30, 0x38, 0x3C, 0x50
DOORBELLS = 0x1000
ENABLE, READY, FATAL = 0x1, 0x1, 0x2
CMB_REGISTERS_ON, CMB_ADDRESS_ON = 0x1, 0x2
CAPABILITIES = 1 << 57 | 1 << 37 | 0x10 << 24 | 0x7FF
"""CMBS, the NVM command set, 8 s to become ready, 2048 entries a queue."""
VERSION = 0x00010400
CMB_CAN = 0x1F
"""CMBSZ: submission and completion queues, lists, reads and writes, in units of 4 KiB."""


class Nvme(Model):
    """The controller. Its namespace is the drive of the machine's description."""

    IDENTITY: ClassVar[Identity] = Identity(0x1B36, 0x11F1, 0x010802)
    BARS: ClassVar[dict[int, int]] = {REGISTERS: 0x4000, CMB: CMB_SIZE, TABLE: 0x1000}
    WIDE: ClassVar[tuple[int, ...]] = (REGISTERS, CMB)
    MSIX: ClassVar[Msix | None] = Msix(TABLE, 8)

    def __init__(self, port: Port, drive: Path | None = None) -> None:
        super().__init__(port, drive)
        self._registers = bytearray(DOORBELLS)
        self._commands = Commands(self, drive)
        struct.pack_into("<QI", self._registers, CAP, CAPABILITIES, VERSION)
        self._forget()

    def _forget(self) -> None:
        self.submissions: dict[int, Queue] = {}
        self.completions: dict[int, Queue] = {}

    def reset(self) -> None:
        """Disable the controller. The CMB, and where it is, survive."""
        for register in (CC, CSTS, AQA):
            struct.pack_into("<I", self._registers, register, 0)
        struct.pack_into("<QQ", self._registers, ASQ, 0, 0)
        self._forget()

    # Registers

    def read(self, bar: int, offset: int, length: int) -> bytes:
        if bar != REGISTERS:
            return super().read(bar, offset, length)
        return bytes(self._registers[offset : offset + length]).ljust(length, b"\0")

    def write(self, bar: int, offset: int, data: bytes) -> None:
        if bar != REGISTERS:
            super().write(bar, offset, data)
            return
        if offset >= DOORBELLS:
            for at in range(0, len(data), 4):  # eight bytes are a submission and a completion doorbell
                self._doorbell(offset + at, int.from_bytes(data[at : at + 4], "little"))
            return
        if offset in (CC, AQA, ASQ, ASQ + 4, ACQ, ACQ + 4, CMBMSC, CMBMSC + 4):
            self._registers[offset : offset + len(data)] = data
        if offset == CC:
            self._enable(bool(data[0] & ENABLE))
        elif offset == CMBMSC:
            self._show_cmb()

    def _get(self, layout: str, register: int) -> int:
        return int(struct.unpack_from(layout, self._registers, register)[0])

    def _enable(self, on: bool) -> None:
        self._forget()
        if on:
            sizes = self._get("<I", AQA)
            self.submissions[0] = Queue(self._get("<Q", ASQ), (sizes & 0xFFF) + 1)
            self.completions[0] = Queue(self._get("<Q", ACQ), (sizes >> 16 & 0xFFF) + 1, vector=0)
        struct.pack_into("<I", self._registers, CSTS, READY if on else 0)

    def _show_cmb(self) -> None:
        on = self._get("<Q", CMBMSC) & CMB_REGISTERS_ON
        size = (CMB_SIZE >> 12) << 12 | CMB_CAN
        struct.pack_into("<II", self._registers, CMBLOC, CMB if on else 0, size if on else 0)

    # Doorbells

    def _doorbell(self, offset: int, value: int) -> None:
        index = (offset - DOORBELLS) // 4
        qid, kind = index // 2, "cq" if index % 2 else "sq"
        queue = (self.completions if index % 2 else self.submissions).get(qid)
        if offset % 4 or queue is None:
            self.port.log("doorbell", queue=kind, qid=qid, value=None, accepted=False)
            return
        accepted = value < queue.size
        self.port.log("doorbell", queue=kind, qid=qid, value=value, accepted=accepted)
        if not accepted:
            return
        if kind == "cq":
            queue.head = value
            return
        queue.tail = value
        if not queue.busy:
            queue.busy = True
            self.port.spawn(self._serve(qid, queue))

    async def _serve(self, qid: int, queue: Queue) -> None:
        try:
            while queue.head != queue.tail and self.submissions.get(qid) is queue:
                entry = await self.fetch(queue.address + queue.head * SQE_SIZE, SQE_SIZE)
                queue.head = (queue.head + 1) % queue.size
                submission = Submission.decode(entry)
                status, result = await self._commands.run(qid, submission)
                if self.submissions.get(qid) is queue:
                    await self._complete(qid, queue, submission.cid, status, result)
        except DmaRefused:  # of an entry of a queue: the controller fails
            struct.pack_into("<I", self._registers, CSTS, self._get("<I", CSTS) | FATAL)
        finally:
            queue.busy = False

    async def _complete(self, qid: int, queue: Queue, cid: int, status: int, result: int) -> None:
        target = self.completions[queue.peer]
        entry = CQE.pack(result, 0, queue.head, qid, cid, status << 1 | target.phase)
        at = target.address + target.tail * len(entry)
        target.tail = (target.tail + 1) % target.size
        target.phase ^= target.tail == 0
        await self.store(at, entry)
        if target.vector is not None:
            self.port.interrupt(target.vector)

    # Memory: the host's, or the CMB

    def _in_cmb(self, address: int, length: int) -> int | None:
        control = self._get("<Q", CMBMSC)
        at = address - (control & ~0xFFF)
        return at if control & CMB_ADDRESS_ON and 0 <= at <= CMB_SIZE - length else None

    async def fetch(self, address: int, length: int) -> bytes:
        """Read ``length`` bytes. Raises DmaRefused."""
        at = self._in_cmb(address, length)
        if at is None:
            return await self.port.dma_read(address, length)
        return bytes(self.memory[CMB][at : at + length])

    async def store(self, address: int, data: bytes) -> None:
        """Write ``data``. Raises DmaRefused."""
        at = self._in_cmb(address, len(data))
        if at is None:
            await self.port.dma_write(address, data)
        else:
            self.memory[CMB][at : at + len(data)] = data

    # Queues

    def create_queue(self, submission: bool, qid: int, queue: Queue) -> bool:
        """Add a queue. Returns whether it could be added."""
        queues = self.submissions if submission else self.completions
        if qid in queues or (submission and queue.peer not in self.completions):
            return False
        queues[qid] = queue
        return True

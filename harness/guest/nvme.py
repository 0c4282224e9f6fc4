# SPDX-License-Identifier: GPL-2.0-only
"""A user-space NVMe driver over vfio. It queues commands; the caller rings their doorbells."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from . import nvme_spec as spec
from .engine import Engine, IoasEngine
from .iommufd import Ioas
from .memory import AddressSpace, Memory
from .nvme_spec import Command
from .poll import Stuck, poll, wait_for
from .resource import Resource
from .vfio import Device

BAR = 0
QUEUES = 8
"""Queue pairs, including the admin pair."""
DEPTH = 64
"""Entries of a queue; a submission queue then has 4 KiB."""
READY_SECONDS = 5.0
COMMAND_SECONDS = 10.0
PAGE = 4096
ENGINE_QUEUE = 33
"""Queue id of NvmeEngine. No case uses it, since the host's trace of doorbells names queues but not controllers."""
CMB_ADDRESS = 448 << 30
"""The CMB's address on the controller's side (CBA), above all IOVAs that memory.py chooses."""


class Registers(Protocol):
    """What the driver uses of a controller's function; ``Device`` is one. Regions have vfio's indices."""

    space: AddressSpace
    """The address space of its DMA."""

    def read32(self, region: int, offset: int) -> int:
        """Read 4 bytes in one access."""

    def write32(self, region: int, offset: int, value: int) -> None:
        """Write 4 bytes in one access."""

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write ``data``."""

    def region_info(self, index: int) -> dict[str, int]:
        """Return ``size``, among others."""

    def reset(self) -> None:
        """Reset the function."""


class _Queue:
    """A queue pair at offsets ``sq`` and ``cq`` of ``Controller._memory``; the former unused with ``cmb_offset``."""

    def __init__(self, qid: int, sq: int, cq: int, cmb_offset: int | None = None) -> None:
        self.qid, self.sq, self.cq, self.cmb_offset = qid, sq, cq, cmb_offset
        self.tail = self.head = 0
        self.phase = 1


class Controller(Resource):
    """A controller with an admin queue and I/O queues on request. After a reset, ``start`` initialises it again."""

    def __init__(self, device: Registers) -> None:
        super().__init__()
        self._device = device
        self._memory = self._own(Memory(device.space, (1 + 2 * QUEUES) * PAGE))  # data, then two pages per queue pair
        self._queues: dict[int, _Queue] = {}
        self._completions: dict[tuple[int, int], dict[str, int]] = {}
        self._cid = 0

    def start(self) -> None:
        """Disable and enable the controller, with an empty admin queue and no other queues."""
        device = self._device
        device.write32(BAR, spec.CC, 0)
        wait_for(lambda: not self._status() & spec.CSTS_READY, READY_SECONDS, "NVMe disable")
        self._queues = {}
        self._queues[0] = self._new_queue(0)
        self._completions.clear()
        admin = self._queues[0]
        device.write32(BAR, spec.AQA, (DEPTH - 1) << 16 | DEPTH - 1)
        for register, offset in ((spec.ASQ, admin.sq), (spec.ACQ, admin.cq)):
            device.write(BAR, register, struct.pack("<Q", self._memory.at(offset)))
        device.write32(BAR, spec.CC, spec.CC_ENTRY_SIZES | spec.CC_ENABLE)
        wait_for(lambda: bool(self._status() & spec.CSTS_READY), READY_SECONDS, "NVMe enable")

    def reset_and_ring(self, qid: int) -> None:
        """Call VFIO_DEVICE_RESET, and at once write the doorbell of queue ``qid`` from the CPU."""
        self._device.reset()
        self._device.write32(BAR, spec.sq_doorbell(qid), 0)

    def _status(self) -> int:
        return self._device.read32(BAR, spec.CSTS)

    def _new_queue(self, qid: int, cmb_offset: int | None = None) -> _Queue:
        sq = (1 + 2 * len(self._queues)) * PAGE
        self._memory.view[sq : sq + 2 * PAGE] = bytes(2 * PAGE)
        return _Queue(qid, sq, sq + PAGE, cmb_offset)

    def create_io_queue(self, qid: int, cmb_offset: int | None = None) -> None:
        """Create I/O queue pair ``qid``, one of up to 7. With ``cmb_offset`` its submission queue is in the CMB."""
        queue = self._new_queue(qid, cmb_offset)
        if cmb_offset is None:
            sq = self._memory.at(queue.sq)
        else:
            sq = CMB_ADDRESS + cmb_offset
            self._device.write(self.cmb()["region"], cmb_offset, bytes(PAGE))
        size = (DEPTH - 1) << 16 | qid
        self.run(Command(spec.CREATE_CQ, dptr=(self._memory.at(queue.cq), 0), cdw10=size, cdw11=1))
        self.run(Command(spec.CREATE_SQ, dptr=(sq, 0), cdw10=size, cdw11=qid << 16 | 1))
        self._queues[qid] = queue

    def cmb(self) -> dict[str, int]:
        """Enable the controller memory buffer. Returns ``region`` (vfio's index), ``offset`` in it, and ``size``."""
        control = CMB_ADDRESS | spec.CMBMSC_CRE | spec.CMBMSC_CMSE
        self._device.write32(BAR, spec.CMBMSC + 4, control >> 32)  # the write of the low half takes effect
        self._device.write32(BAR, spec.CMBMSC, control & 0xFFFFFFFF)
        location, size = self._device.read32(BAR, spec.CMBLOC), self._device.read32(BAR, spec.CMBSZ)
        unit = PAGE << 4 * (size >> 8 & 0xF)
        return {"region": location & 7, "offset": (location >> 12) * unit, "size": (size >> 12) * unit}

    def pmr(self) -> dict[str, int]:
        """Enable the persistent memory region, which reads as zero before. Returns ``region``, ``offset``, ``size``."""
        self._device.write32(BAR, spec.PMRCTL, spec.PMRCTL_ENABLE)
        wait_for(lambda: not self._device.read32(BAR, spec.PMRSTS) & spec.PMRSTS_NOT_READY, READY_SECONDS, "NVMe PMR")
        region = self._device.read32(BAR, spec.PMRCAP) >> 5 & 7
        return {"region": region, "offset": 0, "size": self._device.region_info(region)["size"]}

    def submit(self, qid: int, command: Command, write_entry: bool = True) -> dict[str, Any]:
        """Reserve the queue's next entry for ``command``, and write it there if ``write_entry``. Does not ring.

        Returns the queued command: ``qid``, ``cid``, ``sqe`` (bytes), ``offset`` of the entry in the queue's memory or
        in the CMB, ``doorbell`` (offset in BAR0) and ``tail``, the value that makes the controller fetch the entry.
        """
        queue = self._queues[qid]
        self._cid = (self._cid + 1) & 0x7FFF
        sqe = command.encode(self._cid)
        in_cmb = queue.cmb_offset is not None
        offset = (queue.cmb_offset or 0) + queue.tail * spec.SQE_SIZE
        if write_entry and in_cmb:
            self._device.write(self.cmb()["region"], offset, sqe)
        elif write_entry:
            self._memory.view[queue.sq + offset : queue.sq + offset + spec.SQE_SIZE] = sqe
        queue.tail = (queue.tail + 1) % DEPTH
        queued = {"qid": qid, "cid": self._cid, "sqe": sqe, "offset": offset}
        return {**queued, "doorbell": spec.sq_doorbell(qid), "tail": queue.tail}

    def ring(self, qid: int, tail: int) -> None:
        """Write the submission queue's doorbell with the CPU."""
        self._device.write32(BAR, spec.sq_doorbell(qid), tail)

    def completed(self, qid: int, cid: int, seconds: float) -> dict[str, int] | None:
        """Wait up to ``seconds`` for the command's completion: ``status`` (0 is success) and ``result``.

        None without a completion.
        """

        def arrived() -> bool:
            self._reap(qid)
            return (qid, cid) in self._completions

        return self._completions.pop((qid, cid)) if poll(arrived, seconds) else None

    def _reap(self, qid: int) -> None:
        """Move new completions from the completion queue to ``_completions``."""
        queue = self._queues[qid]
        reaped = False
        while True:
            at = queue.cq + queue.head * spec.CQE_SIZE
            # Read the phase first: unpack reads field by field, and the entry may arrive meanwhile.
            if self._memory.view[at + spec.CQE_PHASE] & 1 != queue.phase:
                break
            result, _, _, _, cid, status = spec.CQE.unpack(self._memory.view[at : at + spec.CQE_SIZE])
            self._completions[qid, cid] = {"status": status >> 1 & 0x7FF, "result": result}
            queue.head = (queue.head + 1) % DEPTH
            queue.phase ^= queue.head == 0
            reaped = True
        if reaped:
            self._device.write32(BAR, spec.sq_doorbell(qid) + 4, queue.head)

    def free_flexible_resources(self) -> None:
        """Take the flexible queues and interrupts from this primary controller. The function's next reset does it."""
        for kind in (spec.QUEUE_RESOURCES, spec.INTERRUPT_RESOURCES):
            self._virtualization(spec.PRIMARY_ALLOCATION, kind, 0, 0)

    def bring_online(self, controller: int) -> None:
        """Give a secondary controller an admin queue pair, an I/O queue pair and an interrupt, and set it online."""
        self._virtualization(spec.SECONDARY_ASSIGN, spec.QUEUE_RESOURCES, controller, 2)
        self._virtualization(spec.SECONDARY_ASSIGN, spec.INTERRUPT_RESOURCES, controller, 1)
        self._virtualization(spec.SECONDARY_ONLINE, 0, controller, 0)

    def _virtualization(self, action: int, kind: int, controller: int, count: int) -> None:
        self.run(Command(spec.VIRTUALIZATION, cdw10=controller << 16 | kind << 8 | action, cdw11=count))

    def run(self, command: Command, qid: int = 0) -> int:
        """Submit, ring and wait. Returns the completion's result. Raises Stuck on an error or without a completion."""
        queued = self.submit(qid, command)
        self.ring(qid, queued["tail"])
        completion = self.completed(qid, queued["cid"], COMMAND_SECONDS)
        if completion is None or completion["status"]:
            raise Stuck(f"NVMe opcode {command.opcode:#x} on queue {qid}: {completion or 'no completion'}")
        return completion["result"]

    def submit_identify(self) -> dict[str, Any]:
        """Queue Identify Controller into the data page, on the admin queue."""
        self._memory.view[:PAGE] = bytes(PAGE)
        return self.submit(0, Command(spec.IDENTIFY, dptr=(self._memory.iova, 0), cdw10=spec.IDENTIFY_CONTROLLER))

    def submit_read(
        self, qid: int, lba: int, blocks: int, cmb_offset: int | None = None, write_entry: bool = True
    ) -> dict[str, Any]:
        """Queue a read of up to a page from the namespace, into the data page or into the CMB."""
        target = self._memory.iova if cmb_offset is None else CMB_ADDRESS + cmb_offset
        return self.submit(qid, spec.transfer(spec.READ, lba, blocks, (target, 0)), write_entry)

    def data(self, length: int) -> bytes:
        """Return the first ``length`` bytes of the data page."""
        return bytes(self._memory.view[:length])

    def block_size(self) -> int:
        """Return the block size of namespace 1 in bytes."""
        self.run(Command(spec.IDENTIFY, nsid=1, dptr=(self._memory.iova, 0), cdw10=spec.IDENTIFY_NAMESPACE))
        namespace = self.data(PAGE)
        return 1 << namespace[128 + 4 * (namespace[26] & 0xF) + 2]


class NvmeDma(Engine):
    """A controller as a DMA engine. Bytes go through the first blocks of its namespace and overwrite them.

    SGLs are byte granular, so a transfer may have any offset and length. The rest of a block goes to a padding page.
    """

    CHUNK = 256 << 10
    """Longest transfer of one command in bytes; below QEMU's default MDTS of 512 KiB."""

    def __init__(self, device: Registers) -> None:
        super().__init__()
        self._memory = self._own(Memory(device.space, self.CHUNK + 2 * PAGE))  # data, padding, SGL
        self._controller = self._own(Controller(device))
        self._controller.start()
        self._controller.create_io_queue(ENGINE_QUEUE)
        self._block = self._controller.block_size()

    def _transfer(self, opcode: int, iova: int, length: int) -> Command:
        """Make the command that moves ``length`` bytes, at most ``CHUNK``. All commands share one SGL."""
        blocks = -(-length // self._block)
        padding, sgl = self._memory.iova + self.CHUNK, self.CHUNK + PAGE
        descriptors = spec.sgl_descriptor(iova, length)
        if surplus := blocks * self._block - length:
            descriptors += spec.sgl_descriptor(padding, surplus)
        self._memory.view[sgl : sgl + len(descriptors)] = descriptors
        segment = spec.sgl_descriptor(self._memory.iova + sgl, len(descriptors), spec.SGL_LAST_SEGMENT)
        dptr = struct.unpack("<QQ", segment)
        return spec.transfer(opcode, 0, blocks, (dptr[0], dptr[1]), spec.USES_SGL)

    def _move(self, opcode: int, iova: int, length: int) -> None:
        self._controller.run(self._transfer(opcode, iova, length), ENGINE_QUEUE)

    def dma_write(self, iova: int, data: bytes) -> None:
        for at, count in self._pieces(iova, len(data)):
            self._load(data[at : at + count])
            self._move(spec.READ, iova + at, count)

    def _load(self, data: bytes) -> None:
        """Put ``data`` into the namespace."""
        self._memory.view[: len(data)] = data
        self._move(spec.WRITE, self._memory.iova, len(data))

    def dma_write_after(self, iova: int, data: bytes, action: Callable[[], object]) -> None:
        """Call ``action``, and start the write of at most ``CHUNK`` bytes as soon as it has returned."""
        self._load(data)
        queued = self._controller.submit(ENGINE_QUEUE, self._transfer(spec.READ, iova, len(data)))
        action()
        self._controller.ring(ENGINE_QUEUE, queued["tail"])
        if self._controller.completed(ENGINE_QUEUE, queued["cid"], COMMAND_SECONDS) is None:
            raise Stuck("the NVMe completed no write")

    def dma_read(self, iova: int, length: int) -> bytes:
        parts = []
        for at, count in self._pieces(iova, length):
            self._move(spec.WRITE, iova + at, count)
            self._move(spec.READ, self._memory.iova, count)
            parts.append(bytes(self._memory.view[:count]))
        return b"".join(parts)

    def _pieces(self, iova: int, length: int) -> Iterator[tuple[int, int]]:
        """Split a transfer into commands; yields each one's offset and length.

        Where the IOMMU translates page by page, QEMU 7.2 loses bytes of a transfer into a BAR that crosses a page
        boundary other than at a multiple of a block. So a command that crosses a boundary begins at one.
        """
        at = 0
        while at < length:
            count = min(-(iova + at) % PAGE or self.CHUNK, length - at)
            yield at, count
            at += count


class NvmeEngine(NvmeDma, IoasEngine):
    """A controller behind vfio-pci and iommufd."""

    def __init__(self, device: Device) -> None:
        if not isinstance(device.space, Ioas):
            raise TypeError("an importer needs an iommufd address space")
        self.space = device.space
        super().__init__(device)

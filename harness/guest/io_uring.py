# SPDX-License-Identifier: GPL-2.0-only
"""Dma-bufs as registered buffers of an io_uring, for the block device of a controller that the nvme driver has bound.

The driver is the importer: it attaches to the buffer when the buffer is registered, maps it for the first request, and
for the next one after a revoke. Whole blocks go between the buffer and the disk. Their bytes are put on the disk, and
read from it, by ordinary direct I/O.
"""

import ctypes
import errno
import mmap
import os
import re
import struct
from contextlib import suppress

from . import dmabuf, files, pci
from .dmabuf import DmaBuf
from .engine import Window
from .fail_nth import acting
from .kernel import Ioctl, Struct, io, ioctl, load_module, named, open_file, remove_module
from .poll import poll, wait_for, wait_value
from .resource import File, Resource
from .rpc import Refused
from .uapi import io_uring as uapi

DRIVER = "nvme"
AUTOPROBE = "/sys/bus/pci/drivers_autoprobe"
CHUNK = 64 << 10
"""Longest request in bytes."""
SLOTS = 16
"""Buffers that can be registered at once."""
NODE_SECONDS = 20.0
"""For the driver to initialise the controller and to find its namespace."""
AGAIN_SECONDS = 5.0
"""How long a request is repeated that the kernel refuses with EAGAIN, which it may do without a reason."""
BLKSSZGET = Ioctl("BLKSSZGET", io("\x12", 104))
"""Gets the size of a logical block (include/uapi/linux/fs.h)."""
RELEASE_SECONDS = 5.0
"""For the work queue on which the kernel detaches from a buffer that was released."""
_DISK = re.compile(r"nvme\d+n\d+")

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(name: str, number: int, *arguments: int) -> int:
    def call() -> int:
        value = int(_libc.syscall(number, *map(ctypes.c_long, arguments)))
        if value < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
        return value

    return acting(name, call)


class Ring(File):
    """An io_uring for one request at a time, with a sparse table of ``SLOTS`` buffers."""

    KIND = "io_uring"

    def __init__(self) -> None:
        parameters = uapi.Params()
        super().__init__(_syscall("io_uring_setup", uapi.NR_IO_URING_SETUP, 1, ctypes.addressof(parameters)))
        self._sq, self._cq = parameters.sq_off, parameters.cq_off
        entry = ctypes.sizeof(uapi.Cqe)
        self._submitted = self._map(uapi.IORING_OFF_SQ_RING, self._sq.array + 4 * parameters.sq_entries)
        self._completed = self._map(uapi.IORING_OFF_CQ_RING, self._cq.cqes + entry * parameters.cq_entries)
        self._entries = self._map(uapi.IORING_OFF_SQES, ctypes.sizeof(uapi.Sqe) * parameters.sq_entries)
        sparse = uapi.RsrcRegister(nr=SLOTS, flags=uapi.IORING_RSRC_REGISTER_SPARSE)
        self._register(uapi.IORING_REGISTER_BUFFERS2, sparse)

    def _map(self, offset: int, length: int) -> mmap.mmap:
        memory = mmap.mmap(self.fd, length, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=offset)
        self._undo.callback(memory.close)
        return memory

    def _register(self, operation: int, argument: Struct) -> None:
        address, size = ctypes.addressof(argument), ctypes.sizeof(argument)
        _syscall("io_uring_register", uapi.NR_IO_URING_REGISTER, self.fd, operation, address, size)

    def set_buffer(self, slot: int, buffer: uapi.RegbufDesc) -> None:
        """Register ``buffer`` in a slot of the table, whose buffer before is released."""
        flags = uapi.IORING_RSRC_UPDATE_EXTENDED
        update = uapi.RsrcUpdate2(offset=slot, flags=flags, data=ctypes.addressof(buffer), nr=1)
        self._register(uapi.IORING_REGISTER_BUFFERS_UPDATE, update)

    def run(self, entry: uapi.Sqe) -> int:
        """Submit one request and wait for its completion. Returns its result: bytes, or ``-errno``."""
        tail, mask = self._load(self._submitted, self._sq.tail), self._load(self._submitted, self._sq.ring_mask)
        self._entries[: ctypes.sizeof(entry)] = bytes(entry)
        self._store(self._submitted, self._sq.array + 4 * (tail & mask), 0)
        self._store(self._submitted, self._sq.tail, tail + 1 & 0xFFFFFFFF)
        _syscall("io_uring_enter", uapi.NR_IO_URING_ENTER, self.fd, 1, 1, uapi.IORING_ENTER_GETEVENTS, 0, 0)
        head, mask = self._load(self._completed, self._cq.head), self._load(self._completed, self._cq.ring_mask)
        at = self._cq.cqes + ctypes.sizeof(uapi.Cqe) * (head & mask)
        result = uapi.Cqe.from_buffer_copy(self._completed, at).res
        self._store(self._completed, self._cq.head, head + 1 & 0xFFFFFFFF)
        return int(result)

    @staticmethod
    def _load(memory: mmap.mmap, offset: int) -> int:
        return int(struct.unpack_from("<I", memory, offset)[0])

    @staticmethod
    def _store(memory: mmap.mmap, offset: int, value: int) -> None:
        struct.pack_into("<I", memory, offset, value)


class Disk(File):
    """The first blocks of a block device, by direct I/O."""

    KIND = "block device"

    def __init__(self, path: str) -> None:
        super().__init__(open_file(path, os.O_RDWR | os.O_DIRECT))
        size = bytearray(4)
        ioctl(self.fd, BLKSSZGET, size)
        self.block = int.from_bytes(size, "little")
        self._memory = mmap.mmap(-1, CHUNK)
        self._undo.callback(self._memory.close)

    def put(self, data: bytes) -> None:
        """Write whole blocks, up to ``CHUNK`` bytes."""
        self._memory[: len(data)] = data
        with memoryview(self._memory) as memory, memory[: len(data)] as part, named("write to the disk"):
            os.pwritev(self.fd, [part], 0)

    def get(self, length: int) -> bytes:
        """Read whole blocks, up to ``CHUNK`` bytes."""
        with memoryview(self._memory) as memory, memory[:length] as part, named("read from the disk"):
            os.preadv(self.fd, [part], 0)
        return self._memory[:length]


class NvmeDriver(Resource):
    """The nvme driver, bound to the controller at ``bdf`` and to no other.

    While it is loaded the PCI bus binds no device by itself: a controller that is plugged in would get it too.
    """

    def __init__(self, bdf: str) -> None:
        super().__init__()
        if not files.exists(f"/sys/bus/pci/drivers/{DRIVER}"):
            self._undo.callback(files.write, AUTOPROBE, files.read_text(AUTOPROBE))
            files.write(AUTOPROBE, "0")
            load_module(DRIVER)
            self._undo.callback(remove_module, DRIVER)
        self._undo.callback(pci.unbind, bdf)
        pci.bind(bdf, DRIVER)
        self._bdf = bdf

    def disk(self) -> str:
        """Wait for the block device of the controller's namespace. Returns its path."""
        return wait_value(self._node, NODE_SECONDS, f"a block device of {self._bdf}")

    def _node(self) -> str | None:
        with suppress(FileNotFoundError):
            top = f"{pci.DEVICES}/{self._bdf}/{DRIVER}"
            (controller,) = files.names(top)
            for name in filter(_DISK.fullmatch, files.names(f"{top}/{controller}")):
                if files.exists(f"/dev/{name}"):
                    return f"/dev/{name}"
        return None


class BlockImporter(Resource):
    """A block device for which dma-bufs can be registered."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self._disk = self._own(Disk(self._own(NvmeDriver(bdf)).disk()))
        self._ring = self._own(Ring())
        self._free = list(range(SLOTS))
        self._warm_up()

    def _warm_up(self) -> None:
        """Move bytes once, so that the driver's pools have the pages that they keep: cases compare page tables."""
        before = dmabuf.count()
        memory = dmabuf.udmabuf(CHUNK)
        window = self.attach(memory, 0, CHUNK)
        window.write(0, bytes(CHUNK))
        window.read(0, CHUNK)
        window.close()
        memory.close()
        wait_for(lambda: dmabuf.count() == before, RELEASE_SECONDS, "the release of a registered buffer")

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "BlockWindow":
        """Register ``dmabuf``. The kernel imports all of it. Errors are those of IORING_REGISTER_BUFFERS_UPDATE."""
        return BlockWindow(self, dmabuf.fd, start)

    def take_slot(self, fd: int) -> int:
        """Register the dma-buf ``fd``. Returns the slot."""
        slot = self._free[-1]
        kind, target = uapi.IO_REGBUF_TYPE_DMABUF, self._disk.fd
        self._ring.set_buffer(slot, uapi.RegbufDesc(type=kind, dmabuf_fd=fd, target_fd=target))
        return self._free.pop()

    def release_slot(self, slot: int) -> None:
        """Release the dma-buf in a slot. The kernel detaches it soon after, on a work queue."""
        self._ring.set_buffer(slot, uapi.RegbufDesc(type=uapi.IO_REGBUF_TYPE_EMPTY))
        self._free.append(slot)

    def put(self, data: bytes) -> None:
        """Put whole blocks, up to ``CHUNK`` bytes, on the disk."""
        self._disk.put(data)

    def on_disk(self, length: int) -> bytes:
        """Read whole blocks, up to ``CHUNK`` bytes, from the disk."""
        return self._disk.get(length)

    def move(self, opcode: int, slot: int, offset: int, length: int) -> None:
        """Run a request for ``length`` bytes at ``offset`` of a registered dma-buf. Raises Refused with its errno.

        ``opcode``: IORING_OP_READ_FIXED from the disk to the buffer, IORING_OP_WRITE_FIXED the other way.
        """
        if length % self._disk.block or length > CHUNK:
            raise ValueError(f"{length} bytes are no request: blocks of {self._disk.block}, up to {CHUNK}")
        entry = uapi.Sqe(opcode=opcode, fd=self._disk.fd, addr=offset, len=length, buf_index=slot)
        results: list[int] = []

        def decided() -> bool:
            results.append(self._ring.run(entry))
            return results[-1] != -errno.EAGAIN

        poll(decided, AGAIN_SECONDS)
        if (result := results[-1]) < 0:
            raise Refused(errno.errorcode.get(-result, f"errno {-result}"))
        if result != length:
            raise Refused(f"only {result} of {length} bytes")


class BlockWindow(Window):
    """A registered dma-buf. ``close`` releases it."""

    def __init__(self, importer: BlockImporter, fd: int, start: int) -> None:
        super().__init__()
        self._importer = importer
        self._start = start
        self._slot = importer.take_slot(fd)
        self._undo.callback(importer.release_slot, self._slot)

    def fill(self, offset: int, length: int) -> None:
        """Let the controller read the disk's first blocks into the buffer."""
        self._importer.move(uapi.IORING_OP_READ_FIXED, self._slot, self._start + offset, length)

    def drain(self, offset: int, length: int) -> None:
        """Let the controller write the buffer's bytes to the disk's first blocks."""
        self._importer.move(uapi.IORING_OP_WRITE_FIXED, self._slot, self._start + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            self._importer.put(part := data[at : at + CHUNK])
            self.fill(offset + at, len(part))

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        for at in range(0, length, CHUNK):
            count = min(CHUNK, length - at)
            self.drain(offset + at, count)
            parts.append(self._importer.on_disk(count))
        return b"".join(parts)


def open_nvme(bdf: str) -> BlockImporter:
    """Bind the nvme driver to the controller at ``bdf``, whose first blocks the importer overwrites."""
    return BlockImporter(bdf)

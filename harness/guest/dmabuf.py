# SPDX-License-Identifier: GPL-2.0-only
"""A dma-buf, as its fd shows it (drivers/dma-buf/dma-buf.c)."""

import errno
import fcntl
import mmap
import os
import re
from collections.abc import Callable

from .files import exists, read_text
from .kernel import ioctl, load_module, named, open_file
from .resource import File, Resource
from .sync import SyncFile, ready
from .uapi import dmabuf as uapi
from .uapi import udmabuf as udmabuf_uapi

BUFINFO = "/sys/kernel/debug/dma_buf/bufinfo"
UDMABUF = "/dev/udmabuf"


class DmaBuf(File):
    """An open dma-buf."""

    KIND = "dma-buf"

    def dup(self) -> "DmaBuf":
        """Duplicate the fd."""
        return DmaBuf(os.dup(self.fd))

    def size(self) -> int:
        """Return the size in bytes, by lseek."""
        with named("lseek dma-buf"):
            return os.lseek(self.fd, 0, os.SEEK_END)

    def fdinfo(self) -> dict[str, str]:
        """Read ``/proc/self/fdinfo``: ``size``, ``count``, ``exp_name``..., as the kernel prints them."""
        lines = read_text(f"/proc/self/fdinfo/{self.fd}").splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def inode(self) -> int:
        """Return the inode number, which identifies the buffer in ``bufinfo``."""
        return os.fstat(self.fd).st_ino

    def cloexec(self) -> bool:
        """Return whether the fd is close-on-exec."""
        return bool(fcntl.fcntl(self.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def status_flags(self) -> int:
        """Return F_GETFL: the access mode and O_NONBLOCK."""
        return fcntl.fcntl(self.fd, fcntl.F_GETFL)

    def sync(self, flags: int) -> None:
        """Call DMA_BUF_IOCTL_SYNC."""
        ioctl(self.fd, uapi.DMA_BUF_IOCTL_SYNC, uapi.Sync(flags=flags))

    def seek(self, offset: int, whence: int) -> int:
        """Call lseek. Returns the position."""
        with named("lseek dma-buf"):
            return os.lseek(self.fd, offset, whence)

    def set_name(self, name: bytes) -> None:
        """Call DMA_BUF_SET_NAME."""
        ioctl(self.fd, uapi.DMA_BUF_SET_NAME_B, bytearray(name + b"\0"))

    def poll(self, events: int, milliseconds: int = 0) -> int:
        """Return the ``events`` (``select.POLLIN``, ``POLLOUT``) that poll(2) reports; 0 if none."""
        return ready(self.fd, events, milliseconds)

    def export_sync_file(self, flags: int) -> SyncFile:
        """Call DMA_BUF_IOCTL_EXPORT_SYNC_FILE."""
        request = uapi.SyncFile(flags=flags)
        ioctl(self.fd, uapi.DMA_BUF_IOCTL_EXPORT_SYNC_FILE, request)
        return SyncFile(request.fd)

    def import_sync_file(self, flags: int, file: File) -> None:
        """Call DMA_BUF_IOCTL_IMPORT_SYNC_FILE."""
        ioctl(self.fd, uapi.DMA_BUF_IOCTL_IMPORT_SYNC_FILE, uapi.SyncFile(flags=flags, fd=file.fd))

    def mmap(self, length: int) -> None:
        """Map it with mmap, shared and writeable, and unmap it. EINVAL if the exporter has no mmap."""
        with named("mmap dma-buf"):
            mmap.mmap(self.fd, length).close()

    def map_cpu(self, length: int, shared: bool = True) -> "CpuMapping":
        """Map it with mmap. Returns the mapping."""
        return CpuMapping(self.fd, length, shared)


class CpuMapping(Resource):
    """``length`` bytes of a dma-buf in this process's memory. It holds a reference to the dma-buf.

    Only the kernel touches the memory, in read(2) and write(2): a page that is gone gives EFAULT instead of SIGBUS.
    """

    def __init__(self, fd: int, length: int, shared: bool) -> None:
        super().__init__()
        with named("mmap dma-buf"):
            self._memory = mmap.mmap(fd, length, mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        self._undo.callback(self._memory.close)

    def load(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes, up to a page, through the mapping."""
        source, sink = os.pipe()
        try:
            with memoryview(self._memory) as memory, memory[offset : offset + length] as part, named("load"):
                os.write(sink, part)
            return os.read(source, length)
        finally:
            os.close(source)
            os.close(sink)

    def store(self, offset: int, data: bytes) -> None:
        """Write ``data``, up to a page, through the mapping."""
        source, sink = os.pipe()
        try:
            os.write(sink, data)
            with memoryview(self._memory) as memory, memory[offset : offset + len(data)] as part, named("store"):
                os.readv(source, [part])
        finally:
            os.close(source)
            os.close(sink)


def from_memfd(file: int, length: int) -> DmaBuf:
    """Make a dma-buf of the first ``length`` bytes of a memfd (drivers/dma-buf/udmabuf.c)."""
    with named("F_ADD_SEALS"):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    node = open_file(UDMABUF)
    request = udmabuf_uapi.Create(memfd=file, flags=udmabuf_uapi.UDMABUF_FLAGS_CLOEXEC, size=length)
    try:
        return DmaBuf(ioctl(node, udmabuf_uapi.UDMABUF_CREATE, request))
    finally:
        os.close(node)


def udmabuf(length: int) -> DmaBuf:
    """Make a dma-buf of ``length`` bytes of new memory."""
    if not exists(UDMABUF):  # neither built in nor loaded
        load_module("udmabuf")
    file = os.memfd_create("vfio-harness", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(file, length)
        return from_memfd(file, length)
    finally:
        os.close(file)


class OtherFile(File):
    """A file that is no dma-buf. ``kind``: a key of ``OPENERS``, or ``none`` for fd -1."""

    def __init__(self, kind: str) -> None:
        if kind == "none":
            Resource.__init__(self)
            self.fd = -1
        else:
            super().__init__(OPENERS[kind]())


def _memfd() -> int:
    file = os.memfd_create("vfio-harness", os.MFD_CLOEXEC)
    os.truncate(file, mmap.PAGESIZE)
    return file


OPENERS: dict[str, Callable[[], int]] = {
    "memfd": _memfd,
    "eventfd": lambda: os.eventfd(0, os.EFD_CLOEXEC),
    "directory": lambda: open_file("/", os.O_RDONLY),
    "device": lambda: open_file("/dev/null"),
}


def bufinfo() -> list[dict[str, str]]:
    """List the guest's dma-bufs from debugfs: ``size``, ``exp_name``, ``ino`` and ``name`` of each."""
    return parse_bufinfo(read_text(BUFINFO))[0]


def must_list(files: int) -> None:
    """Raise ENOENT unless bufinfo lists a buffer with this count of references to its file."""
    counts = [int(row[3]) for row in _rows(read_text(BUFINFO))]
    if files not in counts:
        raise OSError(errno.ENOENT, f"no buffer with {files} references in {counts}", BUFINFO)


def count() -> tuple[int, int]:
    """Count all dma-bufs, and the attachments to them."""
    buffers, attachments = parse_bufinfo(read_text(BUFINFO))
    return len(buffers), sum(attachments)


def _rows(text: str) -> list[list[str]]:
    """Return each buffer's row of bufinfo: size flags mode count exp_name ino name. The heading has no number."""
    rows = (line.split("\t", 6) for line in text.splitlines())
    return [row for row in rows if len(row) == 7 and row[0].isdigit()]


def parse_bufinfo(text: str) -> tuple[list[dict[str, str]], list[int]]:
    """Parse debugfs ``bufinfo``: the rows of ``bufinfo``, and each buffer's number of attachments.

    Raises ValueError for another layout, in which every leak would be invisible.
    """
    found = [{"size": row[0], "exp_name": row[4], "ino": row[5], "name": row[6].strip()} for row in _rows(text)]
    attachments = [int(count) for count in re.findall(r"^Total (\d+) devices attached$", text, re.MULTILINE)]
    if f"\nTotal {len(found)} objects, " not in text or len(attachments) != len(found):
        raise ValueError(f"{BUFINFO}: {len(found)} buffers found, but it ends with {text[-80:]!r}")
    return found, attachments

# SPDX-License-Identifier: GPL-2.0-only
"""A dma-buf, as its fd shows it (drivers/dma-buf/dma-buf.c)."""

import fcntl
import mmap
import os
import re
from pathlib import Path

from .kernel import close_file, ioctl, load_module, named, open_file
from .resource import Resource
from .uapi import dmabuf as uapi
from .uapi import udmabuf as udmabuf_uapi

BUFINFO = Path("/sys/kernel/debug/dma_buf/bufinfo")
UDMABUF = Path("/dev/udmabuf")


class DmaBuf(Resource):
    """An open dma-buf; owns its fd."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self._undo.callback(close_file, fd, "dma-buf")

    def size(self) -> int:
        """Return the size in bytes, by lseek."""
        with named("lseek dma-buf"):
            return os.lseek(self.fd, 0, os.SEEK_END)

    def fdinfo(self) -> dict[str, str]:
        """Read ``/proc/self/fdinfo``: ``size``, ``count``, ``exp_name``..., as the kernel prints them."""
        lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
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

    def mmap(self, length: int) -> None:
        """Map it with mmap, shared and writeable, and unmap it. EINVAL if the exporter has no mmap."""
        with named("mmap dma-buf"):
            mmap.mmap(self.fd, length).close()


def from_memfd(file: int, length: int) -> DmaBuf:
    """Make a dma-buf of the first ``length`` bytes of a memfd (drivers/dma-buf/udmabuf.c)."""
    with named("F_ADD_SEALS"):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    node = open_file(str(UDMABUF))
    request = udmabuf_uapi.Create(memfd=file, flags=udmabuf_uapi.UDMABUF_FLAGS_CLOEXEC, size=length)
    try:
        return DmaBuf(ioctl(node, udmabuf_uapi.UDMABUF_CREATE, request))
    finally:
        os.close(node)


def udmabuf(length: int) -> DmaBuf:
    """Make a dma-buf of ``length`` bytes of new memory."""
    if not UDMABUF.exists():  # neither built in nor loaded
        load_module("udmabuf")
    file = os.memfd_create("vfio-harness", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(file, length)
        return from_memfd(file, length)
    finally:
        os.close(file)


def bufinfo() -> list[dict[str, str]]:
    """List the guest's dma-bufs from debugfs: ``size``, ``exp_name`` and ``ino`` of each."""
    return parse_bufinfo(BUFINFO.read_text())[0]


def count() -> tuple[int, int]:
    """Count all dma-bufs, and the attachments to them."""
    buffers, attachments = parse_bufinfo(BUFINFO.read_text())
    return len(buffers), sum(attachments)


def parse_bufinfo(text: str) -> tuple[list[dict[str, str]], list[int]]:
    """Parse debugfs ``bufinfo``: the rows of ``bufinfo``, and each buffer's number of attachments.

    Raises ValueError for another layout, in which every leak would be invisible.
    """
    rows = [line.split("\t", 6) for line in text.splitlines()]
    # A buffer's row is: size flags mode count exp_name ino name. The heading has no number.
    found = [{"size": row[0], "exp_name": row[4], "ino": row[5]} for row in rows if len(row) == 7 and row[0].isdigit()]
    attachments = [int(count) for count in re.findall(r"^Total (\d+) devices attached$", text, re.MULTILINE)]
    if f"\nTotal {len(found)} objects, " not in text or len(attachments) != len(found):
        raise ValueError(f"{BUFINFO}: {len(found)} buffers found, but it ends with {text[-80:]!r}")
    return found, attachments

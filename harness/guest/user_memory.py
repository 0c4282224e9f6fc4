# SPDX-License-Identifier: GPL-2.0-only
"""Memory of the process that user space maps into IO address spaces, and the limits on what it may lock."""

import ctypes
import mmap
import os
import resource
from pathlib import Path

from .iommufd import Ioas
from .kernel import forbid
from .resource import Resource

CAP_IPC_LOCK = 14
"""include/uapi/linux/capability.h"""
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class UserMemory(Resource):
    """``pages`` pages of this process. Each byte is its page's number, modulo 256.

    ``scattered``: neighbouring pages are not neighbours in physical memory, so that each is a run of its own.
    """

    def __init__(self, pages: int, scattered: bool = False) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
        self._undo.callback(self._memory.close)
        anchor = ctypes.c_char.from_buffer(self._memory)
        self._address = ctypes.addressof(anchor)
        del anchor  # a live export would keep the mmap from closing
        # The kernel allocates pages in the order of their first use.
        order = [*range(0, pages, 2), *range(1, pages, 2)] if scattered else range(pages)
        for page in order:
            start = page * mmap.PAGESIZE
            self._memory[start : start + mmap.PAGESIZE] = bytes([page % 256]) * mmap.PAGESIZE

    def map(self, space: Ioas, start: int, length: int, iova: int | None = None) -> int:
        """Call IOMMU_IOAS_MAP for ``length`` bytes from ``start``, at an unused IOVA if none is given. Returns it."""
        iova = space.new_iova(length) if iova is None else iova
        space.map_memory(self._address + start, length, iova)
        return iova

    def read(self, start: int, length: int) -> bytes:
        """Read the memory as the process sees it."""
        return self._memory[start : start + length]

    def forbid(self, start: int) -> None:
        """Make the pages from ``start`` inaccessible, so that a pin of them gives EFAULT. They stay so."""
        forbid(self._address + start, len(self._memory) - start)


def pins() -> int:
    """Count the pages that are pinned in the whole kernel (/proc/vmstat, nr_foll_pin_*).

    Each processor adds to the counters now and then. ``stat_refresh`` makes it do so at once (mm/vmstat.c).
    """
    Path("/proc/sys/vm/stat_refresh").write_text("1")
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["nr_foll_pin_acquired"]) - int(lines["nr_foll_pin_released"])


def locked() -> dict[str, int]:
    """Return the pages that the kernel has charged to this process: ``VmLck`` and ``VmPin`` of its status."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {words[0].rstrip(":"): words[1] for words in lines if len(words) > 1}
    return {name: int(found[name]) * 1024 // mmap.PAGESIZE for name in ("VmLck", "VmPin")}


def limit(pages: int, uid: int) -> None:
    """Limit the memory that this process may lock (RLIMIT_MEMLOCK), take CAP_IPC_LOCK from it, and change its user."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (pages * mmap.PAGESIZE, pages * mmap.PAGESIZE))
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, for capabilities 0 to 31 and for the rest
    _checked(_libc.capget(header, sets), "capget")
    sets[0] &= ~(1 << CAP_IPC_LOCK)
    _checked(_libc.capset(header, sets), "capset")
    if uid:
        os.setresuid(uid, uid, uid)


def _checked(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)

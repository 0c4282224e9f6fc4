# SPDX-License-Identifier: GPL-2.0-only
"""Memory of the process that user space maps into IO address spaces, and the limits on what it may lock."""

import ctypes
import mmap
import os
import resource

from . import files
from .fail_nth import each_failing, refusal, stop
from .iommufd import Ioas
from .kernel import forbid
from .resource import File, Resource

CAP_IPC_LOCK = 14
"""include/uapi/linux/capability.h"""
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class UserMemory(Resource):
    """``pages`` pages of this process. Each byte is its page's number, modulo 256.

    ``scattered``: neighbouring pages are not neighbours in physical memory, so that each is a run of its own.
    ``in_file``: a memfd holds the pages, and IOMMU_IOAS_MAP_FILE maps them.
    """

    def __init__(self, pages: int, scattered: bool = False, in_file: bool = False) -> None:
        super().__init__()
        length = pages * mmap.PAGESIZE
        self._file = File(os.memfd_create("vfio-harness", os.MFD_CLOEXEC)) if in_file else None
        if self._file:
            self._undo.callback(self._file.close)
            os.truncate(self._file.fd, length)
        self._memory = mmap.mmap(self._file.fd if self._file else -1, length)
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
        """Call IOMMU_IOAS_MAP or IOMMU_IOAS_MAP_FILE for ``length`` bytes from ``start``.

        At an unused IOVA if none is given. Returns it.
        """
        iova = space.new_iova(length) if iova is None else iova
        if self._file:
            space.map_file(self._file, start, length, iova)
        else:
            space.map_memory(self._address + start, length, iova)
        return iova

    def split(self, space: Ioas, times: int) -> None:
        """Map two pages and unmap the first as VFIO_TYPE1_IOMMU does, which splits the area, ``times`` times."""
        iova = space.new_iova(2 * mmap.PAGESIZE)
        for _ in range(times):
            self.map(space, 0, 2 * mmap.PAGESIZE, iova)
            space.unmap_as_type1(iova, mmap.PAGESIZE)
            space.unmap(iova + mmap.PAGESIZE, mmap.PAGESIZE)

    def map_without_memory(self, space: Ioas, length: int, iova: int) -> list[int]:
        """Fail the first allocation of a map of ``length`` bytes, then the second, and so on. Unmap what was mapped.

        Returns 0 or ``-errno`` for each allocation.
        """

        def attempt() -> int:
            outcome = refusal(lambda: self.map(space, 0, length, iova))
            if not outcome:
                space.unmap(iova, length)
            return outcome

        return each_failing(attempt)

    def read(self, start: int, length: int) -> bytes:
        """Read the memory as the process sees it."""
        return self._memory[start : start + length]

    def forbid(self, start: int) -> None:
        """Make the pages from ``start`` inaccessible, so that a pin of them gives EFAULT. They stay so."""
        forbid(self._address + start, len(self._memory) - start)


def locked() -> dict[str, int]:
    """Return the pages that the kernel has charged to this process: ``VmLck`` and ``VmPin`` of its status."""
    lines = (line.split() for line in files.read_text("/proc/self/status").splitlines())
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
        stop()
        os.setresuid(uid, uid, uid)


def _checked(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)

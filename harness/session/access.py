# SPDX-License-Identifier: GPL-2.0-only
"""Handles on memory of a process in IO address spaces, and on a kernel driver's accesses to it."""

from typing import cast

from harness.errors import outcome_names
from harness.session.attachment import Importing
from harness.session.client import Caller
from harness.session.handle import Handle
from harness.session.ioas import Ioas


class Access(Importing):
    """An access to an IO address space, as the driver of an emulated vfio device has. Errors are those of iommufd.

    Its log has iommufd's callbacks; an event's result is 1 if pages of the callback's range were pinned.
    """

    def pin(self, iova: int, length: int, *, write: bool = False) -> bytes:
        """Call iommufd_access_pin_pages for at most 64 KiB. Returns what the pinned pages hold."""
        return cast(bytes, self._call("pin", iova=iova, length=length, write=write))

    def unpin(self, iova: int, length: int) -> None:
        """Call iommufd_access_unpin_pages for a range that ``pin`` took."""
        self._call("unpin", iova=iova, length=length)

    def read(self, iova: int, length: int) -> bytes:
        """Call iommufd_access_rw to read at most 64 KiB."""
        return cast(bytes, self._call("read", iova=iova, length=length))

    def write(self, iova: int, data: bytes) -> None:
        """Call iommufd_access_rw to write at most 64 KiB."""
        self._call("write", iova=iova, data=data)

    def release(self) -> None:
        """End the wait of the callback, now and later."""
        self._call("release")


class UserMemory(Handle):
    """Pages of a process in the guest. Each byte is its page's number, modulo 256."""

    def __init__(self, caller: Caller, pages: int, *, scattered: bool = False, in_file: bool = False) -> None:
        """Allocate ``pages`` pages. ``scattered``: no two neighbours are neighbours in physical memory.

        ``in_file``: a memfd holds them.
        """
        ref = caller.call("user_memory", "UserMemory", pages=pages, scattered=scattered, in_file=in_file)
        super().__init__(caller, ref)

    def map(self, space: Ioas, start: int, length: int, *, at: int | None = None) -> int:
        """Call IOMMU_IOAS_MAP, or IOMMU_IOAS_MAP_FILE for a memfd, for ``length`` bytes from ``start``.

        At an unused IOVA if none is given. Returns it.
        """
        return cast(int, self._call("map", space=space, start=start, length=length, iova=at))

    def split(self, space: Ioas, times: int) -> None:
        """Map two pages and unmap the first as VFIO_TYPE1_IOMMU does, which splits the area, ``times`` times.

        The second page is unmapped too. ``space`` has no huge pages.
        """
        self._call("split", space=space, times=times)

    def map_without_memory(self, space: Ioas, length: int, *, at: int) -> list[str]:
        """Fail the first allocation of a map, then the second, and so on. What was mapped is unmapped.

        Returns the name of the map's errno for each allocation, ``""`` for success. Needs the kernel's feature
        ``failslab``.
        """
        return outcome_names(self._call("map_without_memory", space=space, length=length, iova=at))

    def read(self, start: int, length: int) -> bytes:
        """Read the memory as the process sees it."""
        return cast(bytes, self._call("read", start=start, length=length))

    def forbid(self, start: int) -> None:
        """Make the pages from ``start`` inaccessible for good: a pin of them gives EFAULT."""
        self._call("forbid", start=start)


def pins(caller: Caller) -> int:
    """Count the pages that are pinned in the whole guest."""
    return cast(int, caller.call("vmstat", "pins"))


def locked(caller: Caller) -> dict[str, int]:
    """Return the pages that are charged to a process: ``VmLck`` and ``VmPin`` of /proc/PID/status."""
    return cast(dict[str, int], caller.call("user_memory", "locked"))


def limit_locked(caller: Caller, pages: int, *, uid: int = 0) -> None:
    """Limit the memory that a forked process may lock (RLIMIT_MEMLOCK), and take CAP_IPC_LOCK from it.

    ``uid``: the user that it becomes; 0 for the one that it is.
    """
    caller.call("user_memory", "limit", pages=pages, uid=uid)

# SPDX-License-Identifier: GPL-2.0-only
"""IO address spaces, and guest memory that devices reach through one."""

import ctypes
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .resource import Resource

# Where mappings without a place of their own go: above any BAR and guest memory, since QEMU's NVMe tells its own BAR
# and CMB from host memory by comparing IOVAs with BAR addresses; below 512 GiB, the reach of a 39-bit IOMMU.
FIRST_IOVA = 256 << 30
IOVA_ALIGNMENT = 2 << 20


class AddressSpace(Resource, ABC):
    """What the devices attached to it see: IOVA to memory. Gives no IOVA out twice, so that a stale one faults."""

    def __init__(self) -> None:
        super().__init__()
        self._next_iova = FIRST_IOVA

    def place(self, length: int) -> int:
        """An IOVA that has never been in use, with ``length`` bytes of room."""
        iova = self._next_iova
        self._next_iova += -(-length // IOVA_ALIGNMENT) * IOVA_ALIGNMENT
        return iova

    @abstractmethod
    def map_memory(self, address: int, length: int, iova: int) -> None:
        """Map ``length`` bytes of this process at ``address``, page aligned, at ``iova``, readable and writeable."""

    @abstractmethod
    def unmap(self, iova: int, length: int) -> int:
        """Unmap what lies there; returns the number of bytes unmapped."""

    def share(self, file: int, address: int, length: int) -> Sequence[int]:
        """Let devices see ``length`` bytes of the memfd ``file``, mapped at ``address``; returns each page's IOVA."""
        iova = self.place(length)
        self.map_memory(address, length, iova)
        return range(iova, iova + length, mmap.PAGESIZE)

    def unshare(self, pages: Sequence[int]) -> None:
        """Undo ``share``."""
        self.unmap(pages[0], len(pages) * mmap.PAGESIZE)

    @abstractmethod
    def attach(self, device_fd: int) -> None:
        """Let the device behind ``device_fd`` see this address space; closing the device undoes it."""


class Memory(Resource):
    """Whole pages of zeroed guest memory, ``length`` bytes at least, that devices in ``space`` reach; see ``view``.

    ``iova`` is the first page's; without an IOMMU the next page's need not follow it: see ``at``.
    """

    def __init__(self, space: AddressSpace, length: int) -> None:
        super().__init__()
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        file = os.memfd_create("vfio-harness", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._undo.callback(os.close, file)
        os.truncate(file, length)
        memory = mmap.mmap(file, length)
        self._undo.callback(memory.close)
        anchor = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(anchor)
        del anchor  # a live export would keep the mmap from closing
        self._pages = space.share(file, address, length)
        self._undo.callback(space.unshare, self._pages)
        self.iova = self._pages[0]
        self.view = memoryview(memory)
        self._undo.callback(self.view.release)

    def at(self, offset: int) -> int:
        """The IOVA of the byte at ``offset``."""
        return self._pages[offset // mmap.PAGESIZE] + offset % mmap.PAGESIZE

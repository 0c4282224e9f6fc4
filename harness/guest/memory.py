# SPDX-License-Identifier: GPL-2.0-only
"""IO address spaces, and guest memory that devices access through them."""

import ctypes
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .resource import Resource

FIRST_IOVA = 256 << 30
"""The lowest IOVA that the agent chooses.

It is above all BARs and guest memory, since QEMU's NVMe recognises its own BAR and CMB by comparing IOVAs with BAR
addresses. It is below 512 GiB, the limit of a 39-bit IOMMU.
"""
IOVA_ALIGNMENT = 2 << 20


class AddressSpace(Resource, ABC):
    """Maps IOVAs to memory for the devices attached to it. It uses no IOVA twice, so that a stale one faults."""

    def __init__(self) -> None:
        super().__init__()
        self._next_iova = FIRST_IOVA

    def new_iova(self, length: int) -> int:
        """Return an IOVA of ``length`` bytes that was never used."""
        iova = self._next_iova
        self._next_iova += -(-length // IOVA_ALIGNMENT) * IOVA_ALIGNMENT
        return iova

    @abstractmethod
    def map_memory(self, address: int, length: int, iova: int) -> None:
        """Map ``length`` bytes of this process at ``address``, page aligned, at ``iova``, readable and writeable."""

    @abstractmethod
    def unmap(self, iova: int, length: int) -> int:
        """Unmap ``length`` bytes at ``iova``. Returns the bytes unmapped."""

    def share(self, file: int, address: int, length: int) -> Sequence[int]:
        """Map ``length`` bytes of the memfd ``file``, which is mapped at ``address``. Returns each page's IOVA."""
        iova = self.new_iova(length)
        self.map_memory(address, length, iova)
        return range(iova, iova + length, mmap.PAGESIZE)

    def unshare(self, pages: Sequence[int]) -> None:
        """Undo ``share``."""
        self.unmap(pages[0], len(pages) * mmap.PAGESIZE)

    @abstractmethod
    def attach(self, device_fd: int) -> None:
        """Attach the device ``device_fd`` to this address space. Closing the device detaches it."""


class Memory(Resource):
    """Whole pages of zeroed guest memory, at least ``length`` bytes, that devices in ``space`` can access.

    ``view``: the memory. ``iova``: the IOVA of the first page. Without an IOMMU the pages need not be contiguous: use
    ``at``.
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
        """Return the IOVA of the byte at ``offset``."""
        return self._pages[offset // mmap.PAGESIZE] + offset % mmap.PAGESIZE

# SPDX-License-Identifier: GPL-2.0-only
"""vfio without an IOMMU: devices see memory as the DMA API shows it to them, and so all of it."""

import ctypes
import mmap
from collections.abc import Sequence

from .container import Container
from .dmabuf import from_memfd
from .importer import Attachment
from .uapi import vfio as uapi


class NoIommu(Container):
    """The container of a device that no IOMMU translates; nothing can be mapped into it."""

    IOMMU = uapi.VFIO_NOIOMMU_IOMMU

    def __init__(self, bdf: str) -> None:
        super().__init__(bdf)
        self._bdf = bdf

    def share(self, file: int, address: int, length: int) -> Sequence[int]:
        """Lock the pages, so that they stay where they are, and ask the DMA API where the device sees each."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(length)):
            raise OSError(ctypes.get_errno(), "cannot lock memory", "mlock")
        buffer = from_memfd(file, length)
        attachment = Attachment(self._bdf, buffer, static=True)
        attachment.map()
        entries = attachment.table()["entries"]
        attachment.close()
        buffer.close()
        return [page for e in entries for page in range(e["address"], e["address"] + e["length"], mmap.PAGESIZE)]

    def unshare(self, pages: Sequence[int]) -> None:
        """Nothing to do: the pages are unlocked with their mapping."""

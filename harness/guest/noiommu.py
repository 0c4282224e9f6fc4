# SPDX-License-Identifier: GPL-2.0-only
"""vfio without an IOMMU: devices access all memory, by the addresses of the DMA API."""

import ctypes
import mmap
from collections.abc import Sequence

from .container import Container
from .dmabuf import from_memfd
from .importer import Attachment
from .uapi import vfio as uapi


class NoIommu(Container):
    """The container of a device without an IOMMU. It maps nothing."""

    IOMMU = uapi.VFIO_NOIOMMU_IOMMU

    def __init__(self, bdf: str) -> None:
        super().__init__(bdf)
        self._bdf = bdf

    def share(self, file: int, address: int, length: int) -> Sequence[int]:
        """Lock the pages so that they do not move, and get each page's DMA address from the DMA API."""
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
        """Do nothing: munmap unlocks the pages."""

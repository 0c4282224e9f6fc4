# SPDX-License-Identifier: GPL-2.0-only
"""A kernel driver's access to an IO address space, made by the test importer (guest-images/importer/access.c)."""

import ctypes

from .importer import Importing
from .iommufd import Ioas
from .kernel import Ioctl, ioctl
from .uapi import importer as uapi


class Access(Importing):
    """An access to ``space``. Errors are those of iommufd.

    ``delay_ms``: how long iommufd's callback waits for ``release`` before it unpins.
    """

    def __init__(self, space: Ioas, delay_ms: int = 0) -> None:
        super().__init__()
        request = uapi.AccessRequest(fd=space.iommufd.fd, ioas=space.number, delay_ms=delay_ms)
        self._start(uapi.IMPORTER_ACCESS, request)

    def pin(self, iova: int, length: int, write: bool = False) -> bytes:
        """Call iommufd_access_pin_pages. Returns the bytes of the pinned pages."""
        return self._transfer(uapi.IMPORTER_ACCESS_PIN, iova, bytes(length), write=write)

    def unpin(self, iova: int, length: int) -> None:
        """Undo one ``pin`` of the same range. EBADFD if there is none."""
        self._transfer(uapi.IMPORTER_ACCESS_UNPIN, iova, bytes(length), write=False)

    def read(self, iova: int, length: int) -> bytes:
        """Call iommufd_access_rw to read."""
        return self._transfer(uapi.IMPORTER_ACCESS_RW, iova, bytes(length), write=False)

    def write(self, iova: int, data: bytes) -> None:
        """Call iommufd_access_rw to write."""
        self._transfer(uapi.IMPORTER_ACCESS_RW, iova, data, write=True)

    def release(self) -> None:
        """End the wait of the callback, now and later."""
        ioctl(self.fd, uapi.IMPORTER_RELEASE)

    def _transfer(self, request: Ioctl, iova: int, data: bytes, *, write: bool) -> bytes:
        buffer = ctypes.create_string_buffer(data, len(data))
        flags = uapi.IMPORTER_ACCESS_WRITE if write else 0
        argument = uapi.AccessRange(iova=iova, length=len(data), data=ctypes.addressof(buffer), flags=flags)
        ioctl(self.fd, request, argument)
        return buffer.raw

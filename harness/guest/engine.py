# SPDX-License-Identifier: GPL-2.0-only
"""Importing devices: a window of a dma-buf, and the device's DMA that moves bytes through it."""

import struct
from abc import ABC, abstractmethod
from contextlib import suppress

from .dmabuf import DmaBuf
from .iommufd import Ioas
from .resource import Resource


class Window(Resource, ABC):
    """``length`` bytes of a dma-buf, as an importing device accesses them. Offsets count from the window's start."""

    @abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """Let the device write ``data``."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Let the device read ``length`` bytes."""

    def store32(self, offset: int, value: int) -> None:
        """Let the device write a naturally aligned little-endian dword, with exactly one 4-byte access."""
        self.write(offset, struct.pack("<I", value))

    def iova(self) -> int | None:
        """Return the window's address on the device's side; None if it has none."""
        return None

    def unmapped(self) -> int | None:
        """Return, after the close, the bytes that the kernel reported as unmapped; None if it reports none."""
        return None


class Engine(Resource, ABC):
    """A device that reads and writes memory at an IOVA on request."""

    @abstractmethod
    def dma_write(self, iova: int, data: bytes) -> None:
        """Write ``data`` at ``iova``. A write that the IOMMU blocks raises nothing."""

    @abstractmethod
    def dma_read(self, iova: int, length: int) -> bytes:
        """Read ``length`` bytes at ``iova``. The result of a blocked read is undefined."""

    @abstractmethod
    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> Window:
        """Map part of ``dmabuf`` into this device's address space."""


class IoasEngine(Engine):
    """A device attached to an iommufd IO address space."""

    space: Ioas

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "IovaWindow":
        """Call IOMMU_IOAS_MAP_FILE on part of ``dmabuf``."""
        return IovaWindow(self, self.space.map_file(dmabuf, start, length), length)

    def copy(self, source: Ioas, iova: int, length: int) -> "IovaWindow":
        """Call IOMMU_IOAS_COPY for ``length`` bytes that ``source`` maps at ``iova``."""
        return IovaWindow(self, self.space.copy(source, iova, length), length)

    def area(self, iova: int, length: int) -> "AreaWindow":
        """Return a window on the area of ``length`` bytes that the address space already has at ``iova``."""
        return AreaWindow(self, iova, length)


class IovaWindow(Window):
    """A window through an iommufd IO address space, which maps ``length`` bytes at ``base``. ``close`` unmaps."""

    def __init__(self, engine: IoasEngine, base: int, length: int) -> None:
        super().__init__()
        self._engine = engine
        self.base = base
        self._unmapped: int | None = None
        self._undo.callback(self._unmap, length)

    def _unmap(self, length: int) -> None:
        self._unmapped = self._engine.space.unmap(self.base, length)

    def unmapped(self) -> int | None:
        return self._unmapped

    def iova(self) -> int | None:
        return self.base

    def write(self, offset: int, data: bytes) -> None:
        self._engine.dma_write(self.base + offset, data)

    def read(self, offset: int, length: int) -> bytes:
        return self._engine.dma_read(self.base + offset, length)


class AreaWindow(IovaWindow):
    """A window on an area that others may unmap too. ``close`` unmaps it unless it is gone."""

    def _unmap(self, length: int) -> None:
        with suppress(FileNotFoundError):  # ENOENT
            super()._unmap(length)

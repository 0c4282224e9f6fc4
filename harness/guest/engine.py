# SPDX-License-Identifier: GPL-2.0-only
"""Importing devices: a window of a dma-buf, and how to move bytes through it by the device's DMA."""

import struct
from abc import ABC, abstractmethod

from .dmabuf import DmaBuf
from .iommufd import Ioas
from .resource import Resource


class Window(Resource, ABC):
    """``length`` bytes of a dma-buf as an importing device reaches them; offsets count from the window's start."""

    @abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """The device writes ``data``."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """The device reads ``length`` bytes."""

    def store32(self, offset: int, value: int) -> None:
        """The device writes a naturally aligned little-endian dword, by exactly one 4-byte access."""
        self.write(offset, struct.pack("<I", value))

    def iova(self) -> int | None:
        """Where the device sees it, if by an address of its own."""
        return None

    def unmapped(self) -> int | None:
        """Once it is closed: how many bytes the kernel said it unmapped, if it says so."""
        return None


class Engine(Resource, ABC):
    """A device that reads and writes memory at an IOVA at our bidding."""

    @abstractmethod
    def dma_write(self, iova: int, data: bytes) -> None:
        """Write ``data`` at ``iova``. Whether it arrives is for the IOMMU to say: a blocked write raises nothing."""

    @abstractmethod
    def dma_read(self, iova: int, length: int) -> bytes:
        """Read ``length`` bytes at ``iova``; what a blocked read returns is not defined."""

    @abstractmethod
    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> Window:
        """Map part of ``dmabuf`` where this device sees it."""


class IoasEngine(Engine):
    """A device attached to an IO address space of iommufd's."""

    space: Ioas

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "IovaWindow":
        """Errors: those of IOMMU_IOAS_MAP_FILE."""
        return IovaWindow(self, self.space.map_file(dmabuf, start, length), length)

    def copy(self, source: Ioas, iova: int, length: int) -> "IovaWindow":
        """IOMMU_IOAS_COPY of what ``source`` has at ``iova``."""
        return IovaWindow(self, self.space.copy(source, iova, length), length)


class IovaWindow(Window):
    """A window through an IO address space of iommufd's, where ``length`` bytes are mapped; closing it unmaps."""

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

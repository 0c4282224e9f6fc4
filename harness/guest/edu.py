# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``edu`` device as a DMA engine (QEMU docs/specs/edu.rst, hw/misc/edu.c).

It moves bytes between memory and its own buffer, which only its DMA accesses.
"""

import struct
from abc import abstractmethod

from .engine import Engine, IoasEngine
from .iommufd import Ioas
from .memory import Memory
from .poll import wait_for
from .vfio import Device

BAR = 0
DMA_SOURCE, DMA_TARGET, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
START, FROM_DEVICE = 0x1, 0x2
BUFFER = 0x40000
"""The buffer's address in the DMA registers."""
BUFFER_SIZE = 4088
"""Usable bytes of 4096. QEMU 7.2 aborts on a DMA that touches or passes the last byte."""
DEADLINE = 10.0
"""Seconds for a DMA, which takes 0.1 s of virtual time."""


class Edu(Engine):
    """``edu`` behind any driver. A transfer of up to 4 KiB is one DMA of 0.1 s, plus one to load its data if needed.

    Each abstract method does one DMA. Offsets are in the device's buffer. A read goes to the buffer's start.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loaded = b""  # the known content of the device's buffer

    @abstractmethod
    def _fill(self, data: bytes) -> None:
        """Put ``data`` at the buffer's start."""

    @abstractmethod
    def _drain(self, count: int) -> bytes:
        """Return the buffer's first bytes."""

    @abstractmethod
    def _write(self, offset: int, iova: int, count: int) -> None:
        """Run one DMA from the buffer."""

    @abstractmethod
    def _read(self, iova: int, count: int) -> None:
        """Run one DMA to the buffer."""

    def dma_write(self, iova: int, data: bytes) -> None:
        for at in range(0, len(data), BUFFER_SIZE):
            chunk = data[at : at + BUFFER_SIZE]
            if chunk not in self._loaded:
                content, self._loaded = _load_content(chunk), b""
                self._fill(content)
                self._loaded = content
            self._write(self._loaded.index(chunk), iova + at, len(chunk))

    def dma_read(self, iova: int, length: int) -> bytes:
        parts = []
        self._loaded = b""
        for at in range(0, length, BUFFER_SIZE):
            count = min(BUFFER_SIZE, length - at)
            self._read(iova + at, count)
            parts.append(self._drain(count))
        return b"".join(parts)


class EduEngine(Edu, IoasEngine):
    """``edu`` behind vfio."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        if not isinstance(device.space, Ioas):
            raise TypeError("an importer needs an iommufd address space")
        self.space = device.space
        self._device = device
        self._staging = self._own(Memory(device.space, BUFFER_SIZE))

    def _fill(self, data: bytes) -> None:
        self._staging.view[: len(data)] = data
        self._dma(self._staging.iova, BUFFER, len(data), 0)

    def _drain(self, count: int) -> bytes:
        self._dma(BUFFER, self._staging.iova, count, FROM_DEVICE)
        return bytes(self._staging.view[:count])

    def _write(self, offset: int, iova: int, count: int) -> None:
        self._dma(BUFFER + offset, iova, count, FROM_DEVICE)

    def _read(self, iova: int, count: int) -> None:
        self._dma(iova, BUFFER, count, 0)

    def _dma(self, source: int, target: int, count: int, command: int) -> None:
        in_buffer = source if command & FROM_DEVICE else target
        if in_buffer < BUFFER or in_buffer + count > BUFFER + BUFFER_SIZE:
            raise ValueError(f"{count} bytes at {in_buffer:#x} are outside edu's buffer")
        self._wait()  # edu ignores writes while a DMA runs, which the previous user may have started
        for register, value in ((DMA_SOURCE, source), (DMA_TARGET, target), (DMA_COUNT, count)):
            self._device.write(BAR, register, struct.pack("<Q", value))
        self._device.write(BAR, DMA_COMMAND, struct.pack("<Q", command | START))
        self._wait()

    def _wait(self) -> None:
        wait_for(lambda: not self._device.read32(BAR, DMA_COMMAND) & START, DEADLINE, "edu DMA")


def _load_content(chunk: bytes) -> bytes:
    """Return the bytes to load for ``chunk``: for a dword, it and the next higher numbers.

    A series of doorbell rings, whose values count up, then loads only once.
    """
    if len(chunk) != 4:
        return chunk
    first = struct.unpack("<I", chunk)[0]
    count = min(BUFFER_SIZE // 4, (1 << 32) - first)
    return struct.pack(f"<{count}I", *range(first, first + count))

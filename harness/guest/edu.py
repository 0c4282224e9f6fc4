# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``edu`` device as a DMA engine (QEMU docs/specs/edu.rst, hw/misc/edu.c).

It moves bytes between memory and a buffer of its own, which only its DMA reaches.
"""

import struct

from .engine import Engine
from .iommufd import Ioas
from .memory import Memory
from .poll import insist
from .vfio import Device

BAR = 0
DMA_SOURCE, DMA_TARGET, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
START, FROM_DEVICE = 0x1, 0x2
BUFFER = 0x40000  # its address on the device's side
BUFFER_SIZE = 4088  # of 4096: a DMA that touches the last byte, or passes it, makes QEMU 7.2 abort, so we check
DEADLINE = 10.0  # seconds for a DMA, which takes 0.1 s of virtual time


class EduEngine(Engine):
    """``edu`` behind vfio; a transfer of up to 4 KiB is a DMA of 0.1 s, plus one to load its data if need be."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        if not isinstance(device.space, Ioas):
            raise TypeError("an importer needs an address space of iommufd's")
        self.space = device.space
        self._device = device
        self._staging = self._own(Memory(device.space, BUFFER_SIZE))
        self._loaded = b""  # what the device's buffer is known to hold

    def _dma(self, source: int, target: int, count: int, command: int) -> None:
        near = (target, source)[bool(command & FROM_DEVICE)]
        if near < BUFFER or near + count > BUFFER + BUFFER_SIZE:
            raise ValueError(f"{count} bytes at {near:#x} are outside edu's buffer")
        for register, value in ((DMA_SOURCE, source), (DMA_TARGET, target), (DMA_COUNT, count)):
            self._device.write(BAR, register, struct.pack("<Q", value))
        self._device.write(BAR, DMA_COMMAND, struct.pack("<Q", command | START))
        insist(lambda: not self._device.read32(BAR, DMA_COMMAND) & START, DEADLINE, "edu DMA")

    def _load(self, content: bytes) -> None:
        self._staging.view[: len(content)] = content
        self._loaded = b""
        self._dma(self._staging.iova, BUFFER, len(content), 0)
        self._loaded = content

    def dma_write(self, iova: int, data: bytes) -> None:
        for at in range(0, len(data), BUFFER_SIZE):
            chunk = data[at : at + BUFFER_SIZE]
            if chunk not in self._loaded:
                self._load(_with_company(chunk))
            self._dma(BUFFER + self._loaded.index(chunk), iova + at, len(chunk), FROM_DEVICE)

    def dma_read(self, iova: int, length: int) -> bytes:
        parts = []
        for at in range(0, length, BUFFER_SIZE):
            count = min(BUFFER_SIZE, length - at)
            self._loaded = b""
            self._dma(iova + at, BUFFER, count, 0)
            self._dma(BUFFER, self._staging.iova, count, FROM_DEVICE)
            parts.append(bytes(self._staging.view[:count]))
        return b"".join(parts)


def _with_company(chunk: bytes) -> bytes:
    """A dword loads together with the dwords that count on from it, so that a series of doorbell rings loads once."""
    if len(chunk) != 4:
        return chunk
    first = struct.unpack("<I", chunk)[0]
    count = min(BUFFER_SIZE // 4, (1 << 32) - first)
    return struct.pack(f"<{count}I", *range(first, first + count))

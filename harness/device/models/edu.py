# SPDX-License-Identifier: GPL-2.0-only
"""A DMA engine with the registers of QEMU's ``edu`` (QEMU docs/specs/edu.rst). It starts each DMA at once."""

import struct
from pathlib import Path
from typing import ClassVar

from harness.device.config_space import Identity
from harness.device.model import DmaRefused, Model, Port

SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
START, FROM_DEVICE, RAISE_IRQ = 0x1, 0x2, 0x4
BUFFER, BUFFER_SIZE = 0x40000, 4096
"""The buffer's address in the DMA registers, and its size."""
ID, LIVENESS = 0x00, 0x04


class Edu(Model):
    """The device. A refused DMA ends like any other; only its log says so."""

    IDENTITY: ClassVar[Identity] = Identity(0x1234, 0x11E8, 0x00FF00)
    BARS: ClassVar[dict[int, int]] = {0: 1 << 20}

    def __init__(self, port: Port, drive: Path | None = None) -> None:
        super().__init__(port, drive)
        self._buffer = bytearray(BUFFER_SIZE)
        self.reset()

    def reset(self) -> None:
        self._registers = bytearray(0x100)
        struct.pack_into("<I", self._registers, ID, 0x010000ED)

    def read(self, bar: int, offset: int, length: int) -> bytes:
        return bytes(self._registers[offset : offset + length]).ljust(length, b"\0")

    def write(self, bar: int, offset: int, data: bytes) -> None:
        if offset == LIVENESS and len(data) == 4:
            data = bytes(byte ^ 0xFF for byte in data)
        elif self._running() or not SOURCE <= offset < COMMAND + 8:
            return
        self._registers[offset : offset + len(data)] = data
        if offset == COMMAND and self._running():
            self.port.spawn(self._dma())

    def _running(self) -> bool:
        return bool(self._registers[COMMAND] & START)

    async def _dma(self) -> None:
        source, target, count, command = struct.unpack_from("<QQQQ", self._registers, SOURCE)
        try:
            if command & FROM_DEVICE:
                at = source - BUFFER
                await self.port.dma_write(target, bytes(self._buffer[at : at + count]))
            else:
                at = target - BUFFER
                self._buffer[at : at + count] = b"\xff" * count  # what a read that is refused returns
                self._buffer[at : at + count] = await self.port.dma_read(source, count)
        except DmaRefused:
            pass  # the log has it
        finally:
            self._registers[COMMAND] &= ~START

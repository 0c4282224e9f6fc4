# SPDX-License-Identifier: GPL-2.0-only
"""The base class of device models: BARs of plain memory. A model overrides what differs.

A model never waits for its own DMA before it answers an access: QEMU serves a DMA only when no access waits. So
``write`` returns at once, and work goes on in a task (``self.port.spawn``).
"""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.device.config_space import Identity, Msix


class DmaRefused(Exception):
    """QEMU refused a DMA: no mapping, the IOMMU, or the bus master bit is off. ``number`` is the errno."""

    def __init__(self, number: int) -> None:
        super().__init__(f"DMA refused: errno {number}")
        self.number = number


class Port(Protocol):
    """What a model uses of its function."""

    async def dma_read(self, address: int, length: int) -> bytes:
        """Read memory or a peer's BAR. Raises DmaRefused."""

    async def dma_write(self, address: int, data: bytes) -> None:
        """Write memory or a peer's BAR. Raises DmaRefused."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside the accesses. A reset cancels it; a DmaRefused ends it."""

    def interrupt(self, vector: int) -> None:
        """Signal an MSI-X vector, if the guest has enabled it."""

    def log(self, event: str, **fields: Any) -> None:
        """Append an event to the device's log."""


class Model:
    """A device whose BARs are memory."""

    IDENTITY: ClassVar[Identity] = Identity(0x1234, 0x11F0, 0xFF0000)
    BARS: ClassVar[dict[int, int]] = {0: 0x4000}
    """Sizes by number, powers of two. A wide one takes the next number too."""
    WIDE: ClassVar[tuple[int, ...]] = ()
    MSIX: ClassVar[Msix | None] = None

    def __init__(self, port: Port, drive: Path | None = None) -> None:
        """``drive``: the backing file of the machine's description, if it has one."""
        self.port = port
        self.drive = drive
        self.memory = {number: bytearray(size) for number, size in self.BARS.items()}

    def read(self, bar: int, offset: int, length: int) -> bytes:
        """Answer a read of 1, 2, 4 or 8 bytes."""
        return bytes(self.memory[bar][offset : offset + length])

    def write(self, bar: int, offset: int, data: bytes) -> None:
        """Take a write of 1, 2, 4 or 8 bytes."""
        self.memory[bar][offset : offset + len(data)] = data

    def config(self, offset: int, data: bytes) -> bytes:
        """Answer a read of config space. ``data``: what is there."""
        return data

    def reset(self) -> None:
        """Forget what a reset makes the device forget. Plain memory stays."""

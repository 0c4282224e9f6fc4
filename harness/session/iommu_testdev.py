# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``iommu-testdev`` behind vfio (QEMU docs/specs/iommu-testdev.rst, include/hw/misc/iommu-testdev.h)."""

from enum import IntEnum

from harness.session.device import Device

BAR = 0
TRIGGER, IOVA, LENGTH, RESULT, ARM, PHYSICAL = 0x00, 0x04, 0x0C, 0x10, 0x14, 0x1C
"""Registers of 32 bits; ``IOVA`` and ``PHYSICAL`` are two, the low half first. A read of ``TRIGGER`` does the DMA."""
PATTERN = (0x12345678).to_bytes(4, "little")
"""What it writes, over and over."""


class Result(IntEnum):
    """How a DMA ended (``ITD_DMA_...``)."""

    ARRIVED = 0
    """The bytes are at the physical address."""
    REFUSED = 0xDEAD0002
    """The write failed."""
    UNREADABLE = 0xDEAD0003
    """The write was made. Nothing can be read at the physical address."""
    ELSEWHERE = 0xDEAD0004
    """The write was made. Other bytes are at the physical address."""


class IommuTestdev:
    """Writes ``PATTERN`` by DMA. Tells whether the write was refused, and whether it arrived where it should."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def write(self, iova: int, length: int, physical: int) -> Result:
        """Write ``length`` bytes at ``iova``, and compare them with those at a physical address, past the IOMMU.

        ValueError if the device reports something else than a ``Result``.
        """
        for register, value in ((IOVA, iova), (PHYSICAL, physical)):
            self._store(register, value & 0xFFFFFFFF)
            self._store(register + 4, value >> 32)
        self._store(LENGTH, length)
        self._store(ARM, 1)
        self._load(TRIGGER)
        return Result(self._load(RESULT))

    def _store(self, register: int, value: int) -> None:
        self.device.write(BAR, register, value.to_bytes(4, "little"))

    def _load(self, register: int) -> int:
        return int.from_bytes(self.device.read(BAR, register, 4), "little")

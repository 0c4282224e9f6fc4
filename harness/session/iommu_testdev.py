# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``iommu-testdev`` behind vfio. Names are those of QEMU's include/hw/misc/iommu-testdev.h."""

from enum import IntEnum

from harness.errors import HarnessError
from harness.session.device import Device

BAR = 0
ITD_REG_DMA_TRIGGERING = 0x00
"""A read of it does the DMA."""
ITD_REG_DMA_GVA_LO, ITD_REG_DMA_GVA_HI = 0x04, 0x08
ITD_REG_DMA_LEN = 0x0C
ITD_REG_DMA_RESULT = 0x10
ITD_REG_DMA_DBELL = 0x14
ITD_REG_DMA_GPA_LO, ITD_REG_DMA_GPA_HI = 0x1C, 0x20
ITD_DMA_DBELL_ARM = 1
ITD_DMA_WRITE_VAL = 0x12345678
"""The dword that it writes, over and over."""


class Result(IntEnum):
    """How a DMA ended (``ITD_DMA_RESULT_*`` and ``ITD_DMA_ERR_*``)."""

    OK = 0
    """The pattern is at the physical address."""
    TX_FAIL = 0xDEAD0002
    """The write failed, at the IOMMU or behind it."""
    RD_FAIL = 0xDEAD0003
    """The write was made. Nothing can be read at the physical address."""
    MISMATCH = 0xDEAD0004
    """The write was made. Something else is at the physical address."""


class IommuTestdev:
    """Writes by DMA, and reads at a physical address, past the IOMMU, what has arrived there.

    It ignores Bus Master Enable.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def write(self, iova: int, length: int, physical: int) -> Result:
        """Write ``length`` bytes of the pattern at ``iova``, and compare them with those at ``physical``.

        The pattern is always the same, so the memory should have something else before. Raises HarnessError for a
        result that the device gives only to a request that is wrong.
        """
        self._store(ITD_REG_DMA_GVA_LO, iova & 0xFFFFFFFF)
        self._store(ITD_REG_DMA_GVA_HI, iova >> 32)
        self._store(ITD_REG_DMA_GPA_LO, physical & 0xFFFFFFFF)
        self._store(ITD_REG_DMA_GPA_HI, physical >> 32)
        self._store(ITD_REG_DMA_LEN, length)
        self._store(ITD_REG_DMA_DBELL, ITD_DMA_DBELL_ARM)
        self._load(ITD_REG_DMA_TRIGGERING)
        value = self._load(ITD_REG_DMA_RESULT)
        try:
            return Result(value)
        except ValueError:
            raise HarnessError(f"iommu-testdev: the result {value:#x} of a write at {iova:#x}") from None

    def _store(self, register: int, value: int) -> None:
        self.device.write(BAR, register, value.to_bytes(4, "little"))

    def _load(self, register: int) -> int:
        return int.from_bytes(self.device.read(BAR, register, 4), "little")

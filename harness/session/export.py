# SPDX-License-Identifier: GPL-2.0-only
"""The versions of the export uAPI: how a kernel takes a request for a dma-buf (docs/contract.md, section 1)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import CapabilityMissing

Range = tuple[int, int]
"""Offset in the region and length, in bytes."""


@dataclass(frozen=True)
class ExportUapi:
    """One version of the export uAPI."""

    name: str
    """For messages."""
    feature: int
    """The number of VFIO_DEVICE_FEATURE_DMA_BUF."""
    single: bool = False
    """Whether the payload holds exactly one range, as in the series of 2022 to 2024."""

    @property
    def most_ranges(self) -> int:
        """The largest number of ranges that cases use in a request."""
        return 1 if self.single else 4096

    def payload(
        self, region: int, ranges: Sequence[Range], open_flags: int, flags: int = 0, count: int | None = None
    ) -> bytes:
        """Encode the payload that follows ``struct vfio_device_feature``.

        ``count``: nr_ranges; None for the number of ranges. CapabilityMissing if this version cannot express the
        request.
        """
        count = len(ranges) if count is None else count
        if self.single:
            if [len(ranges), count, flags] != [1, 1, 0] or ranges[0][0] >= 1 << 32:
                raise CapabilityMissing(
                    f"the export uAPI of {self.name} takes one range, with a u32 offset, and no flags"
                )
            ((offset, length),) = ranges
            return struct.pack("<IIIxxxxQ", region, open_flags, offset, length)
        head = struct.pack("<IIII", region, open_flags, flags, count)
        return head + b"".join(struct.pack("<QQ", *each) for each in ranges)


VFIO_DEVICE_FEATURE_DMA_BUF = 11  # include/uapi/linux/vfio.h

MAINLINE = ExportUapi("mainline since 6.19", VFIO_DEVICE_FEATURE_DMA_BUF)

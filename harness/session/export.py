# SPDX-License-Identifier: GPL-2.0-only
"""The export uAPI's versions, as data: how a kernel takes a request for a dma-buf (docs/contract.md, section 1)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

Range = tuple[int, int]  # offset in the region, length; bytes


@dataclass(frozen=True)
class ExportUapi:
    """``feature``: the number of VFIO_DEVICE_FEATURE_DMA_BUF. ``single``: the payload holds exactly one range."""

    name: str
    feature: int
    single: bool = False

    def payload(self, region: int, ranges: Sequence[Range], open_flags: int, flags: int = 0) -> bytes:
        """The payload that follows ``struct vfio_device_feature``. ValueError for what this version cannot say."""
        if self.single:
            if len(ranges) != 1 or flags:
                raise ValueError(f"the export uAPI {self.name} takes one range and no flags")
            ((offset, length),) = ranges
            return struct.pack("<IIIxxxxQ", region, open_flags, offset, length)
        head = struct.pack("<IIII", region, open_flags, flags, len(ranges))
        return head + b"".join(struct.pack("<QQ", *each) for each in ranges)


MAINLINE = ExportUapi("mainline since 6.19", 11)

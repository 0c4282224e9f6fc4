# SPDX-License-Identifier: GPL-2.0-only
"""The registers that a DMA of iommu-testdev needs, and their order."""

from typing import cast

import pytest

from harness.errors import HarnessError
from harness.session import Device
from harness.session.iommu_testdev import IommuTestdev, Result


class Registers:
    """Stands in for the device's BAR 0. It keeps each access."""

    def __init__(self, result: int) -> None:
        self.result = result
        self.seen: list[tuple[int, int | None]] = []

    def write(self, region: int, offset: int, data: bytes) -> None:
        assert (region, len(data)) == (0, 4)
        self.seen.append((offset, int.from_bytes(data, "little")))

    def read(self, region: int, offset: int, length: int) -> bytes:
        assert (region, length) == (0, 4)
        self.seen.append((offset, None))
        return self.result.to_bytes(4, "little")


def test_a_request_is_whole_and_armed_before_it_is_triggered() -> None:
    registers = Registers(0xDEAD0002)
    written = IommuTestdev(cast(Device, registers)).write(0x1_2345_6000, 64, 0xF_0000_1000)
    assert written is Result.TX_FAIL
    *requested, armed, triggered, result = registers.seen
    assert dict(requested) == {0x04: 0x2345_6000, 0x08: 1, 0x1C: 0x1000, 0x20: 0xF, 0x0C: 64}
    assert (armed, triggered, result) == ((0x14, 1), (0x00, None), (0x10, None))


def test_a_wrong_request_is_no_result() -> None:
    with pytest.raises(HarnessError, match="the result 0xdead0005 of a write at 0x1000"):
        IommuTestdev(cast(Device, Registers(0xDEAD0005))).write(0x1000, 64, 0)

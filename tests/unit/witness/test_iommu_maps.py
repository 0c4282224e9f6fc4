# SPDX-License-Identifier: GPL-2.0-only
"""Map requests, from the lines that QEMU traces of a virtio-iommu."""

import pytest

from harness.witness.iommu_maps import IommuMap, parse

LINE = "domain=18 virt_start=0x4000600000 virt_end=0x4000600fff phys_start=0xfe801000 flags={}"


@pytest.mark.parametrize(("flags", "mmio"), [(3, False), (7, True), (4, True), (0, False)])
def test_a_map_says_whether_it_is_of_mmio(flags: int, mmio: bool) -> None:
    assert parse(LINE.format(flags)) == IommuMap(18, 0x4000600000, 0xFE801000, 0x1000, mmio)


def test_a_map_is_told_in_a_line() -> None:
    assert str(parse(LINE.format(3))) == "domain 18: 0x1000 bytes at 0xfe801000 mapped as memory at 0x4000600000"


def test_what_is_no_map_request_is_none() -> None:
    assert parse("mr=x virt_start=0x0 virt_end=0x1") is None

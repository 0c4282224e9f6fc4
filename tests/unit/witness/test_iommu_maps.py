# SPDX-License-Identifier: GPL-2.0-only
"""Test map requests, parsed from QEMU's trace of a virtio-iommu."""

import pytest

from harness.witness.iommu_maps import IommuMap, parse

LINE = "domain=18 virt_start=0x4000600000 virt_end=0x4000600fff phys_start=0xfe801000 flags={}"


@pytest.mark.parametrize(("flags", "mmio"), [(3, False), (7, True), (4, True), (0, False)])
def test_map_has_its_memory_type(flags: int, mmio: bool) -> None:
    assert parse(LINE.format(flags)) == IommuMap(18, 0x4000600000, 0xFE801000, 0x1000, mmio)


def test_map_prints_as_one_line() -> None:
    assert str(parse(LINE.format(3))) == "domain 18: 0x1000 bytes at 0xfe801000 mapped as memory at 0x4000600000"


def test_other_arguments_are_no_map_request() -> None:
    assert parse("mr=x virt_start=0x0 virt_end=0x1") is None

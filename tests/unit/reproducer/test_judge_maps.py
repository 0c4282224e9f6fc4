# SPDX-License-Identifier: GPL-2.0-only
"""The host's witness of memory types, for a program that cannot see them."""

from harness.reproducer.boot import judge_maps
from harness.reproducer.outcome import Outcome
from harness.verdict import Verdict
from harness.witness.iommu_maps import IommuMap

SKIPPED = Outcome(Verdict.SKIP, "only an observer outside the program sees it", ("ok 1 b # SKIP",))
MEMORY = 1 << 30


def mapped(phys: int, *, mmio: bool) -> IommuMap:
    return IommuMap(domain=2, iova=0x4000000000, phys=phys, length=0x1000, mmio=mmio)


def test_a_bar_as_memory_is_the_bug() -> None:
    found = judge_maps(SKIPPED, [mapped(0xFEA00000, mmio=True), mapped(0xFEA00000, mmio=False)], MEMORY)
    assert (found.verdict, found.lines) == (Verdict.FAIL, SKIPPED.lines)
    assert "0xfea00000 mapped as memory" in found.reason


def test_bars_as_mmio_pass() -> None:
    maps = [mapped(0xFEA00000, mmio=True), mapped(0x1000, mmio=False)]
    assert judge_maps(SKIPPED, maps, MEMORY).verdict is Verdict.PASS


def test_without_a_bar_nothing_is_judged() -> None:
    assert judge_maps(SKIPPED, [mapped(0x1000, mmio=False)], MEMORY) is SKIPPED

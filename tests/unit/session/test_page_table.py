# SPDX-License-Identifier: GPL-2.0-only
"""The entries of an SMMU's page table that point into a buffer."""

from typing import cast

import pytest

from harness.session import page_table
from harness.session.page_table import PageTableEntry, smmu_entries
from harness.vm import Machine
from harness.witness.smmu_tables import Leaf

BAR = 0x1000_0000
DEVICE = 0x04


def leaf(iova: int, address: int, size: int = 0x1000, *, writeable: bool = True) -> Leaf:
    return Leaf(7, iova, address, size, writeable, DEVICE)


def test_only_what_points_into_the_ranges_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Tables:
        def __init__(self, machine: object) -> None: ...

        def leaves(self, requester: int) -> list[Leaf]:
            asked.append(requester)
            return [leaf(0x8000, BAR), leaf(0x9000, BAR + 0x3000, writeable=False), leaf(0xA000, BAR + 0x4000)]

    monkeypatch.setattr(page_table, "SmmuTables", Tables)
    found = smmu_entries(cast(Machine, None), "0000:02:00.0", BAR, [(0x3000, 0x1000), (0x8000, 0x1000)])
    assert found == [PageTableEntry(0x9000, 0x3000, 0x1000, readable=True, writeable=False)]
    assert asked == [0x200]

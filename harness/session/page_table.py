# SPDX-License-Identifier: GPL-2.0-only
"""Entries of an IOMMU page table that point into a BAR."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.session.export import Range
from harness.vm import Machine
from harness.witness.iommu_faults import requester_id
from harness.witness.smmu_tables import SmmuTables


@dataclass(frozen=True)
class PageTableEntry:
    """A leaf entry of the page table that translates for an importing device."""

    iova: int
    offset: int
    """Where the page is in the BAR."""
    size: int
    """Bytes of the page: 4 KiB, 2 MiB or 1 GiB."""
    readable: bool
    writeable: bool

    @classmethod
    def of(cls, iova: int, address: int, size: int, access: int) -> "PageTableEntry":
        """Make one of what the agent sends (harness/guest/page_table.py)."""
        return cls(iova, address, size, readable=bool(access & 1), writeable=bool(access & 2))


def smmu_entries(machine: Machine, bdf: str, bar: int, ranges: Sequence[Range]) -> list[PageTableEntry]:
    """List the entries of an SMMU's page table for the device ``bdf`` that point into ``ranges`` of a BAR.

    The host reads them. ``bar``: the BAR's physical address."""
    targets = [(bar + start, bar + start + length) for start, length in ranges]
    return [
        PageTableEntry(leaf.iova, leaf.address - bar, leaf.size, readable=True, writeable=leaf.writeable)
        for leaf in SmmuTables(machine).leaves(requester_id(bdf))
        if any(leaf.address < stop and start < leaf.address + leaf.size for start, stop in targets)
    ]

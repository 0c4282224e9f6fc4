# SPDX-License-Identifier: GPL-2.0-only
"""Entries of an IOMMU page table that point into a BAR."""

from dataclasses import dataclass


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

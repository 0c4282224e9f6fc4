# SPDX-License-Identifier: GPL-2.0-only
"""The entries of a kernel's dump of an IOMMU page table."""

from harness.guest.page_table import DMA_PTE_READ, DMA_PTE_WRITE, Entry, parse

DUMP = """\
Device 0000:02:00.0 @0xc72000
IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              \tPDE               \tPTE
0x0000000002000 |\t0x0000000000000000\t0x0000000004e5e003\t0x0000000004e5f003\t0x0000000004e60003\t0x80000000fe801803
0x0000000100000 |\t0x0000000000000000\t0x0000000004e5e003\t0x0000000004e61003\t0x0000000380000083
0x0000040000000 |\t0x0000000000000000\t0x0000000004e5e003\t0x00000003c0000081
"""


def test_entries_of_every_size() -> None:
    both = DMA_PTE_READ | DMA_PTE_WRITE
    assert list(parse(DUMP.splitlines())) == [
        Entry(0x200_0000, 0xFE80_1000, 1 << 12, both),
        Entry(0x1_0000_0000, 0x3_8000_0000, 1 << 21, both),
        Entry(0x400_0000_0000, 0x3_C000_0000, 1 << 30, DMA_PTE_READ),
    ]

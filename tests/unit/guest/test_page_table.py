# SPDX-License-Identifier: GPL-2.0-only
"""The pages of a kernel's dump of an IOMMU page table."""

from harness.guest.page_table import pages

DUMP = """\
Device 0000:02:00.0 @0xc72000
IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              \tPDE               \tPTE
0x0000000002000 |\t0x0000000000000000\t0x0000000004e5e003\t0x0000000004e5f003\t0x0000000004e60003\t0x80000000fe801803
0x0000000100000 |\t0x0000000000000000\t0x0000000004e5e003\t0x0000000004e61003\t0x0000000380000083
0x0000040000000 |\t0x0000000000000000\t0x0000000004e5e003\t0x00000003c0000083
"""


def test_pages_of_every_size() -> None:
    assert list(pages(DUMP.splitlines())) == [
        (0xFE801000, 0xFE802000),
        (0x3_8000_0000, 0x3_8020_0000),
        (0x3_C000_0000, 0x4_0000_0000),
    ]

# SPDX-License-Identifier: GPL-2.0-only
"""The outline of a splat."""

from harness.report.splat_outline import MAX_WIDTH, MOST_LINES, outline

SPLAT = """\
WARNING: drivers/iommu/iommufd/pages.c:238 at iopt_area_unmap_domain_range+0x69/0x80 [iommufd], CPU#0: python3/65
Modules linked in: vfio_harness_importer(O)
RIP: 0010:iopt_area_unmap_domain_range+0x69/0x80 [iommufd]
Code: 48 29 d0
RAX: 0000000000000000 RBX: 0000000000004000
Call Trace:
 <TASK>
 iopt_revoke_notify+0x47/0x80 [iommufd]
 ? __schedule+0x2fe/0x6c0
 vfs_write (fs/read_write.c:686)
 </TASK>
---[ end trace 0000000000000000 ]---
"""


def test_headline_place_and_frames_stay_decoded_or_not() -> None:
    assert outline(SPLAT) == [
        "WARNING: drivers/iommu/iommufd/pages.c:238 at iopt_area_unmap_domain_range+0x69/0x80 [iommufd],"
        " CPU#0: python3/65",
        "RIP: 0010:iopt_area_unmap_domain_range+0x69/0x80 [iommufd]",
        " <TASK>",
        " iopt_revoke_notify+0x47/0x80 [iommufd]",
        " vfs_write (fs/read_write.c:686)",
        " </TASK>",
    ]


def test_other_text_of_the_console_has_no_outline() -> None:
    assert outline("the guest logged: DMA write by 0000:02:00.0 to 0x4000c00000 refused, reason 0x5") == []
    assert outline("") == []


def test_an_outline_is_bounded() -> None:
    frames = "".join(f" frame_{number}+0x1/0x2\n" for number in range(1000))
    lines = outline(f"BUG: {'x' * 100_000}\n{frames}")
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == f"({1001 - MOST_LINES} more)"
    assert max(map(len, lines)) == MAX_WIDTH

# SPDX-License-Identifier: GPL-2.0-only
"""Test the IOTLB's events, parsed from QEMU's trace, and what was stale when a BAR went."""

import pytest

from harness.errors import BlindWitness
from harness.witness import smmu_iotlb
from harness.witness.iotlb import parse, stale, unflushed
from harness.witness.iotlb_events import BarGone, Flush, IotlbEvent, Translation
from harness.witness.tracelog import parse_line

IMPORTER, EXPORTER = "0000:02:00.0", "0000:01:00.0"
IOVAS = range(0xFFFFE000, 0xFFFFF000)
CACHED = Translation(IMPORTER, 0xFFFFE000, 0x12)
GONE = BarGone(EXPORTER, 0)
FLUSH = Flush(0x12, 0xFFFFE000)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("vtd_iotlb_page_update IOTLB page update sid 0x200 iova 0xffffe000 slpte 0xfe801003 domain 0x12", CACHED),
        ("vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x12 addr 0xffffe000 mask 0x0", FLUSH),
        ("vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x2 addr 0x5000 mask 0x2", Flush(2, 0x4000, 4)),
        ("vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x12", Flush(0x12)),
        ("vtd_inv_desc_iotlb_global iotlb invalidate global", Flush()),
        ("pci_update_mappings_del nvme 01:00.0 0,0xfe800000+0x4000", GONE),
        ("pci_update_mappings_del nvme 01:00.0 4,0x8000000000+0x1000000", BarGone(EXPORTER, 4)),
        ("pci_update_mappings_del nvme 01:00.0", None),
        ("vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x12 addr 0xff", None),
        ("vtd_inv_desc_wait_sw wait invalidate status write addr 0x0 data 0x0", None),
    ],
)
def test_each_event_is_parsed(text: str, event: IotlbEvent | None) -> None:
    line = parse_line(f"1928@1795205860.763852:{text}")
    assert line is not None
    assert parse(line) == event


@pytest.mark.parametrize(
    ("flush", "covers"),
    [
        (Flush(), True),
        (Flush(0x12), True),
        (Flush(0x13), False),
        (FLUSH, True),
        (Flush(0x12, 0xFFFFC000, 4), True),
        (Flush(0x12, 0xFFFFC000, 2), False),
        (Flush(0x12, 0xFFFFF000, 4), False),
        (Flush(0x13, 0xFFFFE000), False),
    ],
)
def test_a_flush_covers_its_domain_and_its_pages(flush: Flush, covers: bool) -> None:
    assert flush.covers(CACHED) is covers


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([CACHED, FLUSH, GONE], []),
        ([CACHED, GONE, FLUSH], [CACHED]),
        ([FLUSH, CACHED, GONE], [CACHED]),
        ([CACHED, FLUSH, CACHED, GONE], [CACHED]),
        ([CACHED, Flush(0x13), GONE], [CACHED]),
        ([CACHED, BarGone(EXPORTER, 4), BarGone(IMPORTER, 0), FLUSH, GONE], []),
        ([CACHED, Translation(IMPORTER, 0x1000, 0x12), FLUSH, GONE], []),
    ],
)
def test_what_is_not_flushed_before_the_bar_goes_is_stale(
    events: list[IotlbEvent], expected: list[Translation]
) -> None:
    assert stale(events, IMPORTER, IOVAS, EXPORTER) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], "has not shown 0000:02:00.0 use the mapping"),
        ([GONE], "has not shown 0000:02:00.0 use the mapping"),
        ([GONE, CACHED], "has not shown 0000:02:00.0 use the mapping"),
        ([Translation("0000:03:00.0", 0xFFFFE000, 0x12), GONE], "has not shown 0000:02:00.0 use the mapping"),
        ([CACHED, FLUSH], "has not shown BAR0 of 0000:01:00.0 leave"),
    ],
)
def test_a_trace_without_the_events_proves_nothing(events: list[IotlbEvent], expected: str) -> None:
    with pytest.raises(BlindWitness, match=expected):
        stale(events, IMPORTER, IOVAS, EXPORTER)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([Flush(0x12, 0xFFFFC000, 4), CACHED], []),
        ([FLUSH, Flush(0x12, 0xFFFFF000), CACHED], []),
        ([Flush(0x12), CACHED], []),
        ([FLUSH, CACHED], [0xFFFFF000]),
        ([CACHED, Flush(0x12, 0xFFFFC000, 4)], [0xFFFFE000, 0xFFFFF000]),
        ([Flush(0x13), GONE, CACHED], [0xFFFFE000, 0xFFFFF000]),
        ([Translation("0000:03:00.0", 0xFFFFE000, 0x12), Flush(0x12), CACHED], []),
    ],
)
def test_a_map_flushes_its_pages_before_their_first_use(events: list[IotlbEvent], expected: list[int]) -> None:
    assert unflushed(events, IMPORTER, range(0xFFFFE000, 0x100000000)) == expected


@pytest.mark.parametrize("events", [[], [Flush()], [Translation(IMPORTER, 0x1000, 0x12)]])
def test_a_trace_without_a_use_proves_no_flush(events: list[IotlbEvent]) -> None:
    with pytest.raises(BlindWitness, match=r"has not shown .* use the mapping"):
        unflushed(events, IMPORTER, IOVAS)


SMMU = """\
smmu_iotlb_insert IOTLB ++ asid=18 addr=0xffffe000 tg=1 level=3
smmuv3_translate_success smmuv3-iommu-memory-region-0-1 sid=0x200 iova=0xffffe010 translated=0x10004010 perm=0x2
smmuv3_translate_success smmuv3-iommu-memory-region-0-1 sid=0x200 iova=0xffffe014 translated=0x10004014 perm=0x2
"""


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (SMMU, [CACHED]),
        (SMMU.replace("asid=18 ", "asid=18 vmid=-1 "), [CACHED]),  # since QEMU 9.1
        ("smmuv3_cmdq_tlbi_nh_asid asid=18", [Flush(0x12)]),
        ("smmuv3_cmdq_tlbi_nh ", [Flush()]),
        (
            "smmuv3_s1_range_inval vmid=0 asid=18 addr=0xffffe000 tg=1 num_pages=0x2 ttl=3 leaf=1",
            [Flush(0x12, 0xFFFFE000, 2)],
        ),
        ("smmuv3_range_inval vmid=0 asid=18 addr=0xffffe000 tg=1 num_pages=0x1 ttl=3 leaf=1 stage=1", [FLUSH]),
        (
            "smmuv3_s1_range_inval vmid=0 asid=-1 addr=0xffffe000 tg=0 num_pages=0x1 ttl=0 leaf=1",
            [Flush(None, 0xFFFFE000)],
        ),
        ("pci_update_mappings_del d=0x55d0 01:00.0 0,0x10004000+0x4000", [GONE]),
        ("smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC", []),
    ],
)
def test_smmu_formats(text: str, events: list[IotlbEvent]) -> None:
    assert list(smmu_iotlb.parse(filter(None, map(parse_line, text.splitlines())))) == events


def test_smmu_that_is_not_flushed_is_stale() -> None:
    lines = f"{SMMU}pci_update_mappings_del d=0x55d0 01:00.0 0,0x10004000+0x4000"
    events = [*smmu_iotlb.parse(filter(None, map(parse_line, lines.splitlines())))]
    assert stale(events, IMPORTER, IOVAS, EXPORTER) == [CACHED]
    assert stale([events[0], FLUSH, events[1]], IMPORTER, IOVAS, EXPORTER) == []

# SPDX-License-Identifier: GPL-2.0-only
"""Test doorbells and DMA faults from QEMU's trace and the guest's log, as captured and as the sources print them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.witness.doorbell import Doorbell, parse_doorbells
from harness.witness.iommu_faults import DmaFault, IommuFaults, bdf, parse_console, parse_trace, requester_id
from harness.witness.machine import Machine
from harness.witness.selfcheck import RINGS
from harness.witness.tracelog import MAX_LINE_BYTES, TraceLine, parse_line, read_lines

DATA = Path(__file__).parent.parent / "data"


def doorbells(text: str) -> list[Doorbell]:
    return list(parse_doorbells(line for raw in text.splitlines() if (line := parse_line(raw))))


def faults(text: str) -> list[DmaFault]:
    return list(parse_trace(line for raw in text.splitlines() if (line := parse_line(raw))))


def test_captured_doorbells() -> None:
    seen = doorbells((DATA / "trace-doorbell.log").read_text())
    assert len(seen) == 20
    assert seen[:3] == [Doorbell("sq", 0, 1), Doorbell("cq", 0, 1), Doorbell("sq", 0, 2)]


def test_captured_with_the_timestamps_of_qemu_11() -> None:
    text = (DATA / "trace-qemu-11.log").read_text()
    rung = [doorbell for _, doorbell in RINGS]
    assert doorbells(text) == [*rung, Doorbell("sq", 0, 1)]
    assert doorbells(text)[0].time == 1795887397.276718
    assert faults(text) == [
        DmaFault("0000:01:00.0", 0x5000000000, False, 6, "qemu"),
        DmaFault("0000:01:00.0", 0x5000000004, False, 6, "qemu"),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pci_nvme_mmio_doorbell_sq sqid 1 new_tail 2", Doorbell("sq", 1, 2)),
        ("123@1795205860.763852:pci_nvme_mmio_doorbell_cq cqid 3 new_head 4", Doorbell("cq", 3, 4)),
        (
            "pci_nvme_ub_db_wr_invalid_sqtail submission queue doorbell write value beyond queue size, "
            "sqid=0, new_head=4096, ignoring",
            Doorbell("sq", 0, 4096, accepted=False),
        ),
        (
            "pci_nvme_ub_db_wr_invalid_cqhead completion queue doorbell write value beyond queue size, "
            "cqid=2, new_head=9, ignoring",
            Doorbell("cq", 2, 9, accepted=False),
        ),
        (
            "pci_nvme_ub_db_wr_invalid_sq submission queue doorbell write for nonexistent queue, sqid=7, ignoring",
            Doorbell("sq", 7, None, accepted=False),
        ),
        (
            "pci_nvme_ub_db_wr_misaligned doorbell write not 32-bit aligned, offset=0x100d, ignoring",
            Doorbell("cq", 1, None, accepted=False),
        ),
    ],
)
def test_doorbell_formats(line: str, expected: Doorbell) -> None:
    assert doorbells(line) == [expected]


@pytest.mark.parametrize(
    ("prefix", "time"),
    [
        ("9@1795205860.5:", 1795205860.5),
        ("2026-11-21T13:24:17.763312Z ", 1795267457.763312),  # QEMU 11.1.3
        ("2026-11-21T13:24:17Z ", 1795267457.0),
        ("2026-13-45T99:24:17.763312Z ", None),
        ("", None),
    ],
)
def test_timestamp_becomes_unix_time(prefix: str, time: float | None) -> None:
    (seen,) = doorbells(f"{prefix}pci_nvme_mmio_doorbell_sq sqid 0 new_tail 3")
    assert seen == Doorbell("sq", 0, 3)
    assert seen.time == time


@pytest.mark.parametrize(
    "prefix",
    ["2026-11-21T13:24:17.763312Z", "2026-11-21 13:24:17Z ", "2026-11-21T13:24:17.763312+01:00 ", "9@1795205860:", " "],
)
def test_line_with_another_prefix_is_no_event(prefix: str) -> None:
    assert parse_line(f"{prefix}pci_nvme_mmio_doorbell_sq sqid 0 new_tail 3") is None


def test_captured_faults_and_the_guests_log_which_lacks_one() -> None:
    seen = faults((DATA / "trace-dmar.log").read_text())
    logged = list(parse_console((DATA / "console-dmar.log").read_text()))
    assert [str(fault) for fault in seen] == [
        *["DMA read by 0000:00:01.0 to 0x3000000 refused, reason 0x6"] * 2,
        *["DMA write by 0000:00:01.0 to 0x2000000 refused, reason 0x5"] * 2,
    ]
    assert [str(fault) for fault in logged] == [str(fault) for fault in seen[:3]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "[    3.1] DMAR: [DMA Write PASID 0x1f] Request device [0000:02:00.0] fault addr 0x2000000 "
            "[fault reason 0x05] PTE Write access is not set",
            DmaFault("0000:02:00.0", 0x2000000, True, 5, "guest"),
        ),
        (
            "vfio-pci 0000:02:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000a address=0x2000000 flags=0x0020]",
            DmaFault("0000:02:00.0", 0x2000000, True, None, "guest"),
        ),
        (
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:02:00.0 domain=0x000a address=0x2000000 flags=0x0000]",
            DmaFault("0000:02:00.0", 0x2000000, False, None, "guest"),
        ),
        (
            "virtio_iommu virtio0: page fault from EP 520 at 0x2000000 [W]",
            DmaFault("0000:02:01.0", 0x2000000, True, None, "guest"),
        ),
        (
            "arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: 0000:02:00.0 sid: 0x200 ssid: 0"
            " iova: 0x2000000 ipa: 0",
            DmaFault("0000:02:00.0", 0x2000000, None, None, "guest"),
        ),
        (
            "virtio_iommu virtio0: page fault from EP 16 at 0x3000000 []",
            DmaFault("0000:00:02.0", 0x3000000, None, None, "guest"),
        ),
    ],
)
def test_guest_formats(line: str, expected: DmaFault) -> None:
    assert list(parse_console(line)) == [expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "vtd_dmar_fault sid 0x200 fault 5 addr 0x2000000 write 1",
            DmaFault("0000:02:00.0", 0x2000000, True, 5, "qemu"),
        ),
        (
            "virtio_iommu_report_fault FAULT reason=2 flags=258 endpoint=512 address =0x2000000",
            DmaFault("0000:02:00.0", 0x2000000, True, 2, "qemu"),
        ),
        (
            "30324@1795207919.721282:virtio_iommu_report_fault FAULT reason=2 flags=256 endpoint=16 address =0x3000000",
            DmaFault("0000:00:02.0", 0x3000000, None, 2, "qemu"),
        ),
        (
            "30211@1795207914.229974:amdvi_translation_result devid: 00:02.0 gpa 0x3000000 hpa 0x0",
            DmaFault("0000:00:02.0", 0x3000000, None, None, "qemu"),
        ),
    ],
)
def test_qemu_formats(line: str, expected: DmaFault) -> None:
    assert faults(line) == [expected]


SMMU_LOOKUP = "smmu_iotlb_lookup_miss IOTLB cache MISS asid=3 addr=0x2000000 hit=1 miss=2 hit rate=33"


@pytest.mark.parametrize("event", ["smmuv3_record_event", "smmuv3_propagate_event"])
def test_smmu_fault_has_the_page_of_the_lookup_before_it(event: str) -> None:
    recorded = f"{event} SMMU_EVT_F_TRANSLATION sid=0x200"
    assert faults(f"{SMMU_LOOKUP}\n{recorded}") == [DmaFault("0000:02:00.0", 0x2000000, None, None, "qemu")]
    assert faults(SMMU_LOOKUP) == []


def test_smmu_that_aborts_names_the_access() -> None:
    line = "smmuv3_translate_abort smmuv3-iommu-memory-region-0-1 sid=0x200 abort on iova:0x2000040 is_write=1"
    assert faults(line) == [DmaFault("0000:02:00.0", 0x2000040, True, None, "qemu")]


class FakeQmp:
    """Switches each event on, and records its name."""

    def __init__(self) -> None:
        self.enabled: list[str] = []

    def execute(self, command: str, arguments: dict[str, Any], *, timeout: float) -> list[dict[str, str]]:
        if command == "trace-event-set-state":
            self.enabled.append(arguments["name"])
        return [{"state": "enabled"}]


@pytest.mark.parametrize(
    ("iommu", "events"),
    [
        ("", []),
        ("intel-iommu", ["vtd_dmar_fault"]),
        ("virtio-iommu-pci", ["virtio_iommu_report_fault"]),
        ("amd-iommu", ["amdvi_translation_result"]),
        (
            "smmuv3",
            ["smmuv3_*_event", "smmu_iotlb_lookup_miss", "smmu_iotlb_lookup_hit", "smmuv3_translate_abort"],
        ),
    ],
)
def test_faults_are_traced_by_the_events_of_the_machines_iommu(iommu: str, events: list[str]) -> None:
    """QEMU for arm64 has no event of VT-d, and switching one on is an error."""
    qmp = FakeQmp()
    IommuFaults(cast(Machine, SimpleNamespace(iommu_type=iommu, qmp=qmp, console=None, trace_path=None)))
    assert qmp.enabled == events


def test_translation_that_succeeds_is_no_fault() -> None:
    assert faults("amdvi_translation_result devid: 00:02.0 gpa 0x3000000 hpa 0x40000000") == []


def test_source_id() -> None:
    assert bdf(0x0308 | 0x3) == "0000:03:01.3"
    assert requester_id("0000:03:01.3") == 0x0308 | 0x3


def test_incomplete_line_is_left_for_the_next_read(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"noise\nevent one\n" + b"x" * MAX_LINE_BYTES * 2 + b"\nevent two\nevent thr")
    assert [line.arguments for line in read_lines(path, 0, {"event"})] == ["one", "two"]
    assert [line.arguments for line in read_lines(path, len(b"noise\nevent one\n"), {"event"})] == ["two"]
    assert list(read_lines(tmp_path / "none", 0, {"event"})) == []


@given(
    st.one_of(
        st.text(),
        st.from_regex(
            r"(\d+@\d+\.\d+:|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ )?(vtd_dmar_fault|pci_nvme_ub_db_wr_misaligned) .*"
        ),
    )
)
def test_no_line_raises(line: str) -> None:
    assert len(doorbells(line)) + len(faults(line)) + len(list(parse_console(line))) <= 3 * max(1, len(line))


@given(st.sampled_from(["sq", "cq"]), st.integers(0, 65535), st.integers(0, 65535))
def test_every_doorbell_is_parsed(queue: str, qid: int, value: int) -> None:
    name = {"sq": "sqid {} new_tail {}", "cq": "cqid {} new_head {}"}[queue].format(qid, value)
    (seen,) = parse_doorbells([TraceLine(f"pci_nvme_mmio_doorbell_{queue}", name)])
    assert (seen.queue, seen.qid, seen.value) == (queue, qid, value)

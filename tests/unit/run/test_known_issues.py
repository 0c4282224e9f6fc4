# SPDX-License-Identifier: GPL-2.0-only
"""Known issues: an entry excuses one bug on the kernels that have it, and nothing else."""

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.version import Version

from harness.cli import cli
from harness.config import load, version
from harness.errors import UsageError
from harness.run import known_issues
from harness.run.judge import Judgement
from harness.run.known_issues import Catalogue, KnownIssue, KnownIssues
from harness.verdict import Verdict

ENTRY = """
issues:
  - id: live-in-low-power
    title: a buffer is live in a device in low power
    cases: ["test_lifecycle::test_low_power_stays*iommufd+nvme]"]
    kernels: ">=7.2, <7.4"
    symptom: {verdicts: [FAIL, SPLAT], reason: "broken: dead in low power; seen: .*"}
    review_by: 7.4
    evidence: seen
    link: drivers/vfio/pci/vfio_pci_core.c:1
"""
CASE = "test_lifecycle::test_low_power_stays_revoked[reset-iommufd+nvme]"
FAIL = Judgement(Verdict.FAIL, ("broken: dead in low power; seen: a doorbell",))


def entries(tmp_path: Path, text: str = ENTRY) -> list[KnownIssue]:
    path = tmp_path / "known.yaml"
    path.write_text(text)
    return load(path, Catalogue).issues


@pytest.fixture
def known(tmp_path: Path) -> KnownIssues:
    return KnownIssues(entries(tmp_path), "7.2.12", "intel-iommu")


def test_a_failure_as_the_entry_says_is_known_and_keeps_its_reason(known: KnownIssues) -> None:
    ruling = known.rule(CASE, FAIL)
    assert (ruling.judgement.verdict, ruling.judgement.reason) == (Verdict.KNOWN, FAIL.reason)
    assert ruling.issue == "live-in-low-power"


def test_a_pass_of_a_case_that_an_entry_fails_is_fixed(known: KnownIssues) -> None:
    ruling = known.rule(CASE, Judgement(Verdict.PASS))
    assert (ruling.judgement.verdict, ruling.issue) == (Verdict.FIXED, "live-in-low-power")


@pytest.mark.parametrize(
    ("case", "judgement"),
    [
        (CASE, Judgement(Verdict.FAIL, ("broken: something else",))),
        (CASE, Judgement(Verdict.FAIL, (*FAIL.reasons, "broken: something else"))),
        (CASE, Judgement(Verdict.FAIL, (f"something else; also {FAIL.reason}",))),
        (CASE, Judgement(Verdict.FAIL, (f"{FAIL.reason}\nsomething else",))),
        (CASE, Judgement(Verdict.HANG, FAIL.reasons)),
        (CASE, Judgement(Verdict.ERROR, FAIL.reasons)),
        (CASE, Judgement(Verdict.SKIP, FAIL.reasons)),
        (CASE.replace("nvme", "edu"), FAIL),
        ("test_other" + CASE, FAIL),
        (CASE + "x", FAIL),
        ("test_other::test_low_power", Judgement(Verdict.PASS)),
    ],
)
def test_nothing_else_is_excused(known: KnownIssues, case: str, judgement: Judgement) -> None:
    ruling = known.rule(case, judgement)
    assert ruling.judgement is judgement
    assert ruling.issue is None


def test_several_entries_together_explain_several_reasons(tmp_path: Path) -> None:
    other = ENTRY.replace("\nissues:", "").replace("live-in-low-power", "leak").replace("dead in low power", "no leak")
    known = KnownIssues(
        entries(tmp_path, ENTRY + other.replace("verdicts: [FAIL, SPLAT]", "verdicts: [FAIL]")), "7.2.12", "m"
    )
    reasons = (*FAIL.reasons, "broken: no leak; seen: 1")
    ruling = known.rule(CASE, Judgement(Verdict.FAIL, reasons))
    assert (ruling.judgement, ruling.issue) == (Judgement(Verdict.KNOWN, reasons), "live-in-low-power")
    assert known.rule(CASE, Judgement(Verdict.FAIL, (*reasons, "broken: else"))).issue is None
    splat = Judgement(Verdict.SPLAT, tuple(reversed(reasons)))
    assert known.rule(CASE, splat).issue is None, "the entry of the worst reason does not excuse a SPLAT"


LEAK = """
issues:
  - id: leak
    title: each unmap leaks
    cases: ["test_leak::*"]
    kernels: ">=7.2"
    symptom:
      verdicts: [FAIL]
      reason: "lost (?P<bytes>[0-9]+) bytes|lost (?P<objects>[0-9]+) x (?P<size>[0-9]+) bytes"
      limits:
        bytes: [1024, 2048]
        objects: [1, 64]
        size: [32, 32]
    review_by: 7.4
    evidence: seen
    link: drivers/dma-buf/dma-buf-mapping.c:1
"""


@pytest.mark.parametrize(
    ("reason", "excused"),
    [
        ("lost 1024 bytes", True),
        ("lost 2048 bytes", True),
        ("lost 1023 bytes", False),
        ("lost 2049 bytes", False),
        ("lost 64 x 32 bytes", True),
        ("lost 65 x 32 bytes", False),
        ("lost 64 x 64 bytes", False),
        ("lost 1024 bytes more", False),
        ("have lost 1024 bytes", False),
    ],
)
def test_a_number_is_excused_within_its_limits(tmp_path: Path, reason: str, excused: bool) -> None:
    known = KnownIssues(entries(tmp_path, LEAK), "7.2.12", "intel-iommu")
    ruling = known.rule("test_leak::test_a", Judgement(Verdict.FAIL, (reason,)))
    assert (ruling.issue == "leak") is excused
    assert ruling.judgement.verdict is (Verdict.KNOWN if excused else Verdict.FAIL)


@pytest.mark.parametrize(
    ("was", "wrong", "said"),
    [
        ("        size:", "        sizes:", "symptom.limits: 'sizes' is not a number of the pattern"),
        ("(?P<size>[0-9]+)", "(?P<size>.*)", "symptom.limits: 'size' is not a number of the pattern"),
        ("        size: [32, 32]\n", "", "symptom.limits: the pattern has a number without limits: size"),
        ("[1, 64]", "[64, 1]", "symptom.limits: 'objects': the least, 64, is more than the most, 1"),
        ("[1, 64]", "[64]", "symptom.limits.objects[1]"),
    ],
)
def test_a_mistake_in_limits_is_named_with_file_line_and_key(tmp_path: Path, was: str, wrong: str, said: str) -> None:
    assert was in LEAK
    with pytest.raises(UsageError, match=r"known\.yaml:\d+: issues\[0\]\.symptom\.limits") as caught:
        entries(tmp_path, LEAK.replace(was, wrong))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("release", "machine", "concerned"),
    [
        ("7.2", "a", True),
        ("7.2.12-custom+", "a", True),
        ("7.3.4", "a", True),
        ("7.3.0-rc4", "a", True),
        ("7.2.12", "b", False),
        ("7.1.9", "a", False),
        ("7.4.0", "a", False),
        ("6.19.0-rc1", "a", False),
        ("no kernel", "a", False),
    ],
)
def test_entries_apply_to_their_kernels_and_machines(
    tmp_path: Path, release: str, machine: str, concerned: bool
) -> None:
    text = ENTRY.replace("    evidence", "    machines: [a]\n    evidence")
    ruling = KnownIssues(entries(tmp_path, text), release, machine).rule(CASE, FAIL)
    assert (ruling.issue is not None) is concerned


def test_an_entry_of_a_flavour_applies_to_no_other(tmp_path: Path) -> None:
    found = entries(tmp_path, ENTRY.replace("    evidence", "    flavours: [debug]\n    evidence"))
    assert KnownIssues(found, "7.2.12", "intel-iommu").rule(CASE, Judgement(Verdict.PASS)).issue is None
    assert KnownIssues(found, "7.2.12", "intel-iommu").rule(CASE, FAIL).issue is None
    assert KnownIssues(found, "7.2.12", "intel-iommu", flavour="debug").rule(CASE, FAIL).issue == "live-in-low-power"


def test_an_entry_for_failing_allocations_applies_to_no_other_run(tmp_path: Path) -> None:
    found = entries(tmp_path, ENTRY.replace("    evidence", "    fail_nth: true\n    evidence"))
    assert KnownIssues(found, "7.2.12", "intel-iommu").rule(CASE, Judgement(Verdict.PASS)).issue is None
    assert KnownIssues(found, "7.2.12", "intel-iommu", fail_nth=True).rule(CASE, FAIL).issue == "live-in-low-power"


def test_a_pass_is_no_fix_of_what_shows_in_few_runs(tmp_path: Path) -> None:
    text = ENTRY.replace("    evidence", "    intermittent: true\n    evidence")
    known = KnownIssues(entries(tmp_path, text), "7.2.12", "intel-iommu")
    assert known.rule(CASE, Judgement(Verdict.PASS)).judgement.verdict is Verdict.PASS
    assert known.rule(CASE, FAIL).judgement.verdict is Verdict.KNOWN


def test_releases_are_parsed_as_kernels_print_them() -> None:
    assert version("7.3.0-rc4-00012-gabc+") == Version("7.3rc4")
    assert version("7.2.12+deb13-amd64") == Version("7.2.12")


@pytest.mark.parametrize(
    ("was", "wrong", "said"),
    [
        ("kernels: '>=7.2, <7.4'", "kernels: 7.2 and later", "not a range of releases"),
        ("[FAIL, SPLAT]", "[PASS]", "does not blame the kernel"),
        ("broken: dead in low power; seen: .*", "(", "symptom.reason"),
        ("evidence: seen", "evidence: seen\n    case: x", "did you mean 'cases'"),
        ("live-in-low-power", "Live in low power", "id"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, was: str, wrong: str, said: str) -> None:
    text = ENTRY.replace('"', "'").replace(was, wrong)
    assert text != ENTRY
    with pytest.raises(UsageError, match=r"known\.yaml:\d+: ") as caught:
        entries(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("review_by", "today", "release", "due"),
    [
        ("2027-06-01", "2027-06-01", "9.9", False),
        ("2027-06-01", "2027-06-02", None, True),
        ("7.4", "2099-01-01", "7.3.12", False),
        ("7.4", "2099-01-01", None, False),
        ("7.4", "2026-01-01", "7.4.0-rc1", False),
        ("7.4", "2026-01-01", "7.4", True),
        ("7.4", "2026-01-01", "7.10.1-custom+", True),
        ("7.3.4", "2026-01-01", "7.3.3", False),
        ("7.3.4", "2026-01-01", "7.3.4", True),
    ],
)
def test_an_entry_is_overdue_after_its_date_or_from_its_release(
    tmp_path: Path, review_by: str, today: str, release: str | None, due: bool
) -> None:
    issues = entries(tmp_path, ENTRY.replace("review_by: 7.4", f"review_by: {review_by}"))
    assert (known_issues.overdue(date.fromisoformat(today), release, issues) == issues) == due


@pytest.mark.parametrize("wrong", ["soon", "7", "2027-13-01", "2027-6-1", "v7.4", "7.4-rc1"])
def test_a_review_that_is_no_date_or_release_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(UsageError, match=r"known\.yaml:\d+: .*review_by"):
        entries(tmp_path, ENTRY.replace("review_by: 7.4", f"review_by: {wrong}"))


def test_an_entry_without_a_review_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="review_by"):
        entries(tmp_path, ENTRY.replace("    review_by: 7.4\n", ""))


def test_known_lists_the_overdue_ones_and_exits_with_1() -> None:
    result = CliRunner().invoke(cli, ["known", "--overdue", "99.0"])
    assert result.exit_code == 1
    assert "sgt-orig-nents-leak (>=7.2, <7.4)" in result.stdout
    assert "review by 7.4" in result.stdout
    assert "dmar-dump-of-pass-through" in CliRunner().invoke(cli, ["known"]).stdout


def test_the_shipped_entries_are_valid_and_listed() -> None:
    issues = known_issues.catalogue()
    assert len({issue.id for issue in issues}) == len(issues)
    shown = known_issues.as_text(issues)
    assert [entry["id"] for entry in json.loads(known_issues.as_json(issues))["issues"]] == [i.id for i in issues]
    assert all(issue.id in shown for issue in issues)


EVENTS = ", ".join(
    f"AttachmentEvent(kind='{kind}', at=10.988622, result={result}, task=61)"
    for kind, result in [("mapped", 0), ("notified", 1), ("unmapped", 0), ("mapped", -19), ("notified", 0)]
)
REFUSED = "AttachmentEvent(kind='mapped', at=11.020624, result=-19, task=61)"
UNREVOKE = f"broken: notified of the un-revoke, an importer can map; seen: [{EVENTS}, {REFUSED}]"
LIST = "broken: an unmap frees the scatter list; seen:"
GIVEN_BACK = "broken: an unmap gives back what the map has allocated; seen:"
FRAMES = "kmemleak_alloc < __kmalloc_noprof < sg_kmalloc < __sg_alloc_table < sg_alloc_table < dma_buf_phys_vec_to_sgt"
PANIC = "Kernel panic - not syncing: Fatal exception in interrupt"
LOST = "bytes leaked by python3, allocated in"
IN_D3 = (
    "broken: after flr in low power a buffer stays revoked; seen: it was mapped, with the device in D3hot, and then "
    "the host saw sq 0 doorbell = ? (ignored by the controller) and no DMA fault; the "
    "importer gave no bad status"
)
RESET = (
    "broken: a mapping made before a reset through sysfs no longer reaches the device; seen: the command completed; "
    "the host saw sq 0 doorbell = 1 and no DMA fault; the importer gave no bad status; expected: a DMA fault or a bad "
    "status, and no doorbell"
)
RECOVERY = (
    "broken: a mapping made before error recovery no longer reaches the device; seen: the host saw no doorbell "
    "and no DMA fault; the importer gave no bad status; expected: a DMA fault or a bad status, and no doorbell"
)
SECOND = "broken: a BAR is mapped as MMIO, not as memory, in a second domain; seen:"
AS_MEMORY = "domain 19: 0x1000 bytes at 0xfe801000 mapped as memory at 0x4000400000"
UNPINNED = "broken: a map without memory leaves no page pinned, and unpins none twice; seen:"
STARVED = "broken: a map that fails gives its IOVA space back; seen:"
OWN_TESTS = "broken: iommufd, a test of the kernel's own, passes; seen:"
DMABUF_TESTS = [
    f"'iommufd_ioas.{fixture}.{name}'"
    for fixture in ("no_domain", "mock_domain", "two_mock_domain", "mock_domain_limit")
    for name in ("dmabuf_simple", "dmabuf_revoke")
]
OVERLAPPING = (
    "WARNING in add_dma_entry at kernel/dma/debug.c:465: DMA-API: exceeded 7 overlapping mappings of cacheline "
    "0x0000000003f00000"
)
REGISTER = "the kernel refused: UVERBS_METHOD_REG_DMABUF_MR gave"
AFTER_WAKEUP = "broken: after the wake-up is signalled a buffer can be mapped; seen:"
OUTLIVES = "broken: a mapping outlives a hot reset that is refused with"
DEAD = "the command did not complete; the host saw no doorbell and"
LIVE = "; expected: the doorbell and no refusal"
STALE = "broken: the IOTLB is flushed before command-mem takes the exporter's BAR away; seen:"
STALE_AREA = "broken: the IOTLB is flushed of the area of a range before reset takes the exporter's BAR away; seen:"
AREA_AT_ONCE = "broken: a DMA to the area of a range faults after COMMAND.MEM was cleared and set; seen:"
AT_ONCE = (
    "broken: a DMA that starts after COMMAND.MEM was cleared and set faults; seen: the command completed; "
    "the host saw sq 0 doorbell"
)
SILENT = "; the importer gave no bad status"
UNREFUSED = f"{SILENT}; expected: a DMA fault or a bad status, and no doorbell"
WOKEN = "broken: a buffer of a PF that the kernel has woken to D0 can be mapped; seen:"
ENTERED = "broken: a device does not enter an address space with an area that is in the interrupt range; seen:"
COUNTS = "broken: a case leaves no reference; seen:"
WITHOUT_BARS = IN_D3.replace("sq 0 doorbell = ? (ignored by the controller)", "no doorbell")
SHIPPED: list[tuple[str, list[str], list[str]]] = [
    (
        "live-in-low-power",
        [IN_D3, IN_D3.replace("? (ignored by the controller)", "1").replace("flr", "export")],
        [
            IN_D3.replace("sq 0 doorbell = ? (ignored by the controller)", "no doorbell"),
            IN_D3.replace("no bad status", "status 5"),
            IN_D3.replace("no DMA fault", "1 DMA faults"),
        ],
    ),
    (
        "live-in-low-power-without-bars",
        [WITHOUT_BARS, WITHOUT_BARS.replace("flr", "command-write"), WITHOUT_BARS.replace("D3hot", "D0")],
        [IN_D3, WITHOUT_BARS.replace("D3hot", "D3cold"), WITHOUT_BARS.replace("no DMA fault", "1 DMA faults")],
    ),
    (
        "revoked-after-wakeup",
        [f"{AFTER_WAKEUP} [Errno 19] IOMMU_IOAS_MAP_FILE: ENODEV"],
        [f"{AFTER_WAKEUP} [Errno 19] IOMMU_IOAS_ALLOC: ENODEV"],
    ),
    (
        "aer-and-sysfs-reset",
        [RESET, RECOVERY],
        [RESET.replace("completed", "did not complete"), RESET.replace("= 1", "= 1, sq 0 doorbell = 2")],
    ),
    (
        "ranges-at-one-iova",
        [f"{REGISTER} EADDRINUSE", "the kernel refused: dma_buf_map_attachment gave EADDRINUSE"],
        [f"{REGISTER} EINVAL", "the kernel refused: IOMMU_IOAS_MAP_FILE gave EADDRINUSE"],
    ),
    (
        "virtio-iommu-loses-refusals",
        ["broken: an importer reads whole pages of the BAR", f"{REGISTER} EOPNOTSUPP"],
        [f"{REGISTER} EADDRINUSE"],
    ),
    (
        "sgt-orig-nents-leak",
        [
            f"{LIST} 577536 bytes more",
            f"{LIST} 475136 bytes more",
            f"{LIST} 696320 bytes more after 128 maps",
            f"{GIVEN_BACK} 48 x 32 {LOST} {FRAMES}",
        ],
        [
            f"{LIST} 786432 bytes more",  # 16 bytes more for each of 16384 unmaps
            f"{LIST} 1572864 bytes more",  # 64 bytes more
            f"{LIST} 262144 bytes more",  # another leak of 16 bytes
            f"{LIST} 1048576 bytes more after 128 maps",
            f"{GIVEN_BACK} 96 x 32 {LOST} {FRAMES}",
            f"{GIVEN_BACK} 48 x 4064 {LOST} {FRAMES}",
            f"{GIVEN_BACK} 48 x 32 {LOST} {FRAMES}; 48 x 64 {LOST} kmemleak_alloc < dma_buf_free_sgt",
            f"{GIVEN_BACK} 48 x 32 {LOST} kmemleak_alloc < dma_buf_free_sgt",
        ],
    ),
    (
        "unrevoke-notified-too-early",
        [UNREVOKE],
        [UNREVOKE.replace(f", {REFUSED}", ""), UNREVOKE.replace(REFUSED, f"{REFUSED}, {REFUSED}")],
    ),
    (
        "second-domain-as-memory",
        [f"{SECOND} {AS_MEMORY}"],
        [f"{SECOND} {AS_MEMORY}; {AS_MEMORY}", f"{SECOND} {AS_MEMORY.replace('0x1000', '0x2000')}"],
    ),
    (
        "iova-leak-on-sg-failure",
        [
            f"{STARVED} 4096 pages less: 0xffffffe00000, and then 0xfffffee00000",
            f"{STARVED} 4288 pages less: 0xfffffff80000, and then 0xfffffeec0000",
            f"{STARVED} 5248 pages less: 0xfffffff80000, and then 0xfffffeb00000",
            f"{STARVED} 8128 pages less: 0xfffffff80000, and then 0xfffffdfc0000",
            f"{STARVED} 3584 pages less: 0xfffffff40000, and then 0xffffff140000",
            f"{COUNTS} IOVAs were 0, now 132",
            f"{COUNTS} IOVAs were 1, now 168",
            f"{COUNTS} IOVAs were 0, now 256",
        ],
        [
            f"{STARVED} 8384 pages less: 0xffffffe00000, and then 0xfffffdd40000",
            f"{COUNTS} IOVAs were 1, now 2",
            f"{COUNTS} IOVAs were 1, now 262",
        ],
    ),
    (
        "iommufd-file-unpinned-twice",
        [
            "WARNING in memfd_pin_folios at mm/gup.c:143",
            "WARNING in try_grab_folio at mm/gup.c:143",
            f"{UNPINNED} 100, then -5330",
        ],
        [f"{UNPINNED} 100, then 132", f"{UNPINNED} 100, then -10000", "WARNING in pfn_reader_destroy at mm/gup.c:143"],
    ),
    (
        "hot-reset-refused-revokes",
        [
            f"{OUTLIVES} EINVAL; seen: {DEAD} no DMA fault; the importer gave status IBV_WC_REM_ACCESS_ERR{LIVE}",
            f"{OUTLIVES} EBUSY; seen: {DEAD} 2 DMA faults; the importer gave no bad status{LIVE}",
        ],
        [
            f"{OUTLIVES} EBUSY; seen: {DEAD} no DMA fault; the importer gave no bad status{LIVE}",
            f"{OUTLIVES} EAGAIN; seen: {DEAD} 2 DMA faults; the importer gave no bad status{LIVE}",
        ],
    ),
    (
        "deferred-iotlb-flush",
        [f"{STALE} 0xffffe000 of 0000:03:00.0 in domain 15", f"{AT_ONCE} = 2 and no DMA fault{UNREFUSED}"],
        [
            f"{STALE} 0xffffe000 of 0000:03:00.0 in domain 15, 0xfffff000 of 0000:03:00.0 in domain 15",
            f"{AT_ONCE} = 2 and 1 DMA faults{UNREFUSED}",
            f"{AT_ONCE} = 2, sq 0 doorbell = 3 and no DMA fault{UNREFUSED}",
        ],
    ),
    (
        "deferred-iotlb-flush-of-areas",
        [
            f"{STALE_AREA} 0xeb000000 of 0000:03:00.0 in domain 15",
            f"{AREA_AT_ONCE} b'dead' in the CMB, and 0 DMA faults",
        ],
        [
            f"{STALE_AREA} 0xeb000000 of 0000:03:00.0 in domain 15, 0xec000000 of 0000:03:00.0 in domain 15",
            f"{AREA_AT_ONCE} b'live' in the CMB, and 0 DMA faults",
            f"{AREA_AT_ONCE} b'dead' in the CMB, and 1 DMA faults",
        ],
    ),
    (
        "sriov-wakes-revoked",
        [f"{WOKEN} [Errno 19] IOMMU_IOAS_MAP_FILE: ENODEV"],
        [f"{WOKEN} [Errno 22] IOMMU_IOAS_MAP_FILE: EINVAL", f"{WOKEN} [Errno 19] IOMMU_IOAS_ALLOC: ENODEV"],
    ),
    (
        "ranges-freed-unmapped",
        [
            "WARNING in iova_magazine_free_pfns at drivers/iommu/iova.c:629",
            f"{COUNTS} IOVAs were 1, now -31",
            "DMA-API: device driver tries to free DMA memory it has not allocated in dma_buf_phys_vec_to_sgt",
        ],
        [
            "WARNING in __iommu_dma_unmap at drivers/iommu/dma-iommu.c:839",
            f"{COUNTS} IOVAs were 1, now -97",
            f"{COUNTS} IOVAs were 1, now -143",
            f"{COUNTS} IOVAs were 0, now 81",
            f"{COUNTS} IOVAs were 1, now -31; dma-bufs were 0, now 1",
            "DMA-API: device driver tries to free DMA memory it has not allocated in dma_buf_free_sgt",
        ],
    ),
    (
        "dma-debug-counts-mmio",
        [OVERLAPPING],
        ["WARNING in check_unmap at kernel/dma/debug.c:1043", f"{OVERLAPPING}; also"],
    ),
    (
        "range-unmapped-in-chunks",
        ["DMA-API: device driver frees DMA memory with different size in dma_buf_free_sgt"],
        [
            "DMA-API: device driver frees DMA memory with different size in importer_unmap",
            "DMA-API: device driver tries to free DMA memory it has not allocated in dma_buf_free_sgt",
        ],
    ),
    (
        "selftest-loses-the-fd",
        [f"{OWN_TESTS} [{', '.join(DMABUF_TESTS)}]"],
        [
            f"{OWN_TESTS} [{', '.join(DMABUF_TESTS[:1])}]",
            f"{OWN_TESTS} [{', '.join([*DMABUF_TESTS, repr('iommufd_ioas.no_domain.copy_sweep')])}]",
        ],
    ),
    (
        "reserved-ranges-lost",
        [f"{ENTERED} accepted, not EADDRINUSE"],
        [f"{ENTERED} ENOMEM, not EADDRINUSE"],
    ),
    (
        "dmar-dump-of-pass-through",
        [f"{PANIC}, after an Oops in dmar_fault_dump_ptes"],
        [PANIC, f"{PANIC}, after an Oops in vfio_pci_dma_buf_move"],
    ),
]
"""Id, reasons seen on 7.2.12, and reasons of another bug in the same case."""


@pytest.mark.parametrize(("issue", "seen", "others"), SHIPPED)
def test_a_shipped_entry_excuses_its_bug_and_no_other_failure_in_the_same_sentence(
    issue: str, seen: list[str], others: list[str]
) -> None:
    (entry,) = [entry for entry in known_issues.catalogue() if entry.id == issue]
    for reason in seen:
        assert entry.symptom.explains(reason), reason
    for reason in others:
        assert not entry.symptom.explains(reason), reason


def test_each_shipped_entry_has_such_a_test() -> None:
    assert [issue for issue, _, _ in SHIPPED] == [entry.id for entry in known_issues.catalogue()]

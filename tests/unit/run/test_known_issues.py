# SPDX-License-Identifier: GPL-2.0-only
"""Known issues: an entry excuses one bug on the kernels that have it, and nothing else."""

import json
from pathlib import Path

import pytest
from packaging.version import Version

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
    symptom: {verdicts: [FAIL, SPLAT], reason: "in low power"}
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


def test_releases_are_parsed_as_kernels_print_them() -> None:
    assert version("7.3.0-rc4-00012-gabc+") == Version("7.3rc4")
    assert version("7.2.12+deb13-amd64") == Version("7.2.12")


@pytest.mark.parametrize(
    ("was", "wrong", "said"),
    [
        ("kernels: '>=7.2, <7.4'", "kernels: 7.2 and later", "not a range of releases"),
        ("[FAIL, SPLAT]", "[PASS]", "does not blame the kernel"),
        ("in low power", "(", "symptom.reason"),
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


def test_the_shipped_entries_are_valid_and_listed() -> None:
    issues = known_issues.catalogue()
    assert len({issue.id for issue in issues}) == len(issues)
    shown = known_issues.as_text(issues)
    assert [entry["id"] for entry in json.loads(known_issues.as_json(issues))["issues"]] == [i.id for i in issues]
    assert all(issue.id in shown for issue in issues)

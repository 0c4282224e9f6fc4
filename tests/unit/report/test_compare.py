# SPDX-License-Identifier: GPL-2.0-only
"""Two runs compared: what is broken, fixed and new, and what that is as an exit code; exit codes for git-bisect."""

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError, KernelBuildError, KernelLacksFeature, UsageError
from harness.report.compare import REPORT, VerdictChange, compare
from harness.report.text import summarise
from harness.run import exit_codes
from harness.verdict import CaseRecord, HostRecord, KernelRecord, RunRecord, Verdict


def run(**verdicts: str) -> RunRecord:
    cases = [
        CaseRecord(id=f"test::{name}", area="a", title="t", verdict=Verdict(verdict), reason="why", duration_s=1.0)
        for name, verdict in verdicts.items()
    ]
    return RunRecord(
        run_id="1",
        started="2026-06-01T00:00:00+00:00",
        duration_s=1.0,
        harness="0",
        host=HostRecord(qemu="7.2", accel="tcg", accel_reason="", cpu=""),
        kernel=KernelRecord(release="7.2.12", origin="here", config_hash=""),
        machine="intel-iommu",
        summary=summarise(cases),
        cases=cases,
    )


@pytest.mark.parametrize(
    ("before", "after", "change", "code"),
    [
        *(
            (good, bad, VerdictChange.BROKEN, 1)
            for good in ("PASS", "KNOWN", "FIXED")
            for bad in ("FAIL", "SPLAT", "HANG", "CRASH")
        ),
        ("SKIP", "FAIL", VerdictChange.BROKEN, 1),
        ("FAIL", "PASS", VerdictChange.FIXED, 0),
        ("CRASH", "PASS", VerdictChange.FIXED, 0),
        ("KNOWN", "FIXED", VerdictChange.FIXED, 0),
        ("PASS", "KNOWN", VerdictChange.NEW_KNOWN, 0),
        ("FAIL", "KNOWN", VerdictChange.NEW_KNOWN, 0),
        ("SKIP", "PASS", VerdictChange.NEW, 0),
        ("PASS", "SKIP", VerdictChange.GONE, 0),
        ("FAIL", "CRASH", VerdictChange.OTHER, 0),
        ("PASS", "ERROR", VerdictChange.ERROR, 3),
        ("ERROR", "PASS", VerdictChange.ERROR, 3),
    ],
)
def test_what_became_of_a_case(before: str, after: str, change: VerdictChange, code: int) -> None:
    found = compare(run(it=before, other="PASS"), run(it=after, other="PASS"))
    assert [(d.id, d.change, d.before, d.after) for d in found.differences] == [("test::it", change, before, after)]
    assert found.still == {"PASS": 1}
    assert found.exit_code == code
    assert f"{change}: 1\n  test::it: {before} -> {after}\n      why" in str(found)


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.ERROR])
def test_the_same_is_no_difference(verdict: str) -> None:
    found = compare(run(it=verdict), run(it=verdict))
    assert not found.differences
    assert found.still == {verdict: 1}
    assert found.exit_code == 0


def test_every_pair_of_verdicts_is_known() -> None:
    for before in Verdict:
        for after in Verdict:
            compare(run(it=before), run(it=after))


def test_a_case_that_only_one_run_has() -> None:
    found = compare(run(old="PASS"), run(new="FAIL"))
    assert {d.id: (d.change, d.before, d.after) for d in found.differences} == {
        "test::old": (VerdictChange.GONE, Verdict.PASS, None),
        "test::new": (VerdictChange.BROKEN, None, Verdict.FAIL),
    }


def test_compare_json(tmp_path: Path) -> None:
    compare(run(it="PASS"), run(it="FAIL")).write(tmp_path)
    data = json.loads((tmp_path / REPORT).read_text())
    assert data["schema"] == "vfio-harness/compare/1"
    assert data["differences"] == [
        {"id": "test::it", "change": "broken", "before": "PASS", "after": "FAIL", "reason": "why"}
    ]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["PASS", "KNOWN", "FIXED", "SKIP"], 0),
        (["PASS", "FAIL"], 1),
        (["SPLAT", "ERROR"], 1),
        (["SKIP", "SKIP"], 125),
        (["PASS", "ERROR"], 131),
    ],
)
def test_what_git_bisect_is_told(verdicts: list[str], code: int) -> None:
    assert exit_codes.code_of_cases([Verdict(verdict) for verdict in verdicts]) == code


def test_our_failure_marks_no_commit() -> None:
    assert exit_codes.code_of_error(KernelBuildError("x")) == 125
    assert exit_codes.code_of_error(KernelLacksFeature("x", origin="y")) == 125
    assert exit_codes.code_of_error(UsageError("x")) > 127
    assert exit_codes.code_of_error(HarnessError("x")) > 127
    assert [exit_codes.safe(code) for code in (0, 1, 2, 3, 4, 125, 126, 130)] == [0, 1, 130, 131, 132, 125, 254, 130]

# SPDX-License-Identifier: GPL-2.0-only
"""Comparing two runs: broken, fixed and new cases, the exit code, renamed cases, and records from before."""

import json
from pathlib import Path

import pytest
from run_records import run_record

from harness.cases.collect import collect
from harness.config import matches
from harness.report import load
from harness.report.compare import REPORT, VerdictChange, compare
from harness.report.rate import rate_of
from harness.report.renamed import RenamedCases, renamed_cases
from harness.report.text import CHANGES_HINT
from harness.verdict import CaseRecord, RunRecord, Verdict

OLD_RECORD = Path(__file__).parent.parent / "data" / "reports" / "before-renames.json"


def run(**verdicts: str) -> RunRecord:
    return run_of({f"test::{name}": verdict for name, verdict in verdicts.items()})


def run_of(verdicts: dict[str, str], machine: str = "intel-iommu") -> RunRecord:
    cases = [
        CaseRecord(id=case_id, area="a", title="t", verdict=Verdict(verdict), reason="why", duration_s=1.0)
        for case_id, verdict in verdicts.items()
    ]
    return run_record(*cases, run_id="1", machine=machine)


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
def test_change_of_a_verdict(before: str, after: str, change: VerdictChange, code: int) -> None:
    found = compare(run(it=before, other="PASS"), run(it=after, other="PASS"))
    assert [(d.id, d.change, d.before, d.after) for d in found.differences] == [("test::it", change, before, after)]
    assert found.still == {"PASS": 1}
    assert found.exit_code == code
    assert f"{change}: 1\n  test::it: {before} -> {after}\n      why" in str(found)


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.ERROR])
def test_same_verdict_is_no_difference(verdict: str) -> None:
    found = compare(run(it=verdict), run(it=verdict))
    assert not found.differences
    assert found.still == {verdict: 1}
    assert found.exit_code == 0


def test_every_pair_of_verdicts_can_be_compared() -> None:
    for before in Verdict:
        for after in Verdict:
            compare(run(it=before), run(it=after))


def test_a_known_issue_that_is_no_longer_seen_gets_a_hint() -> None:
    assert CHANGES_HINT in str(compare(run(case="KNOWN"), run(case="FIXED")))
    assert CHANGES_HINT not in str(compare(run(case="FAIL"), run(case="PASS")))


def test_case_that_only_one_run_has() -> None:
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


RENAMED = RenamedCases(renamed={"old::test_a*": "new::test_b*", "old::*": "new::*", "x::test_*[*]": "y::test_*[z-*]"})


@pytest.mark.parametrize(
    ("old", "current"),
    [
        ("old::test_a", "new::test_b"),
        ("old::test_a[rxe]", "new::test_b[rxe]"),
        ("old::test_c[a+b]", "new::test_c[a+b]"),
        ("x::test_d[rxe]", "y::test_d[z-rxe]"),
        ("older::test_a", "older::test_a"),
        ("new::test_b", "new::test_b"),
    ],
)
def test_current_id_of_a_case(old: str, current: str) -> None:
    assert RENAMED.current_id(old) == current


def test_wildcards_of_both_ids_must_agree() -> None:
    with pytest.raises(ValueError, match=r"same number of \*"):
        RenamedCases(renamed={"old::*": "new::test"})


@pytest.mark.parametrize("reverse", [False, True])
def test_renamed_case_is_compared_with_itself(reverse: bool) -> None:
    runs = [
        run_of({"old::test_a[1]": "PASS", "old::test_c": "FAIL", "same::test_d": "PASS"}),
        run_of({"new::test_b[1]": "FAIL", "new::test_c": "FAIL", "same::test_d": "PASS"}),
    ]
    before, after = reversed(runs) if reverse else runs
    found = compare(before, after, RENAMED)
    change = VerdictChange.FIXED if reverse else VerdictChange.BROKEN
    assert [(d.id, d.change) for d in found.differences] == [("new::test_b[1]", change)]
    assert found.still == {"FAIL": 1, "PASS": 1}
    assert "note    2 cases have been renamed since, and are listed by their current ids" in str(found)


def test_old_record_against_a_current_one() -> None:
    """A record from before the renames loads, and each of its cases is paired with its current id."""
    old = load(OLD_RECORD)
    names = renamed_cases()
    current = old.model_copy(
        update={"cases": [case.model_copy(update={"id": names.current_id(case.id)}) for case in old.cases]}
    )
    found = compare(old, current)
    assert sum(case.id.startswith("test_told::") for case in old.cases) == 10
    assert not any(case.id.startswith("test_told::") for case in current.cases)
    assert found.differences == []
    assert found.still == {"PASS": 9, "KNOWN": 2, "SKIP": 1}
    assert found.exit_code == 0


def test_entries_of_renamed_cases_lead_to_ids_that_are_not_renamed_again() -> None:
    names = renamed_cases()
    assert [new for new in names.renamed.values() if names.current_id(new) != new] == []


def test_entries_of_renamed_cases_lead_to_cases_that_exist() -> None:
    ids = [case.id for case in collect()]
    assert [new for new in renamed_cases().renamed.values() if not any(matches([new], name) for name in ids)] == []


@pytest.mark.parametrize(
    ("before", "after", "note"),
    [
        (run(it="PASS"), run(another="PASS"), "the runs have no case in common, so no verdict can be compared"),
        (run(it="PASS"), run_of({"test::it": "PASS"}, "switch"), "the machines differ: intel-iommu and switch"),
        (
            run_of({"old::test_a": "PASS", "new::test_b": "FAIL"}),
            run_of({"new::test_b": "PASS"}),
            "1: 1 cases are left out, because several old ids have become one",
        ),
    ],
)
def test_limit_of_a_comparison_is_noted(before: RunRecord, after: RunRecord, note: str) -> None:
    assert note in compare(before, after, RENAMED).notes


def test_comparison_of_equal_runs_has_no_note() -> None:
    assert compare(run(it="PASS"), run(it="PASS")).notes == []


def repeated(bad: int, runs: int, verdict: str = "FAIL") -> RunRecord:
    verdicts = [Verdict(verdict)] * bad + [Verdict.PASS] * (runs - bad)
    name = verdict if bad else "PASS"
    found = run(x=name)
    return found.model_copy(update={"cases": [found.cases[0].model_copy(update={"rate": rate_of(verdicts)})]})


RATES = {
    "a fix that enough runs show": (repeated(3, 10), repeated(0, 100), VerdictChange.FIXED, 0),
    "a fix that too few runs show": (repeated(3, 10), repeated(0, 20), VerdictChange.UNDECIDED, 3),
    "a rare failure that is gone by chance": (repeated(1, 300), repeated(0, 300), VerdictChange.UNDECIDED, 3),
    "a failure that became rare": (repeated(150, 300), repeated(2, 300), VerdictChange.RARER, 0),
    "a failure that became usual": (repeated(2, 300), repeated(150, 300), VerdictChange.MORE_OFTEN, 1),
    "a new failure": (repeated(0, 300), repeated(60, 300), VerdictChange.BROKEN, 1),
    "a new known issue": (repeated(0, 300), repeated(60, 300, "KNOWN"), VerdictChange.NEW_KNOWN, 0),
    "one failure in many runs that had none": (repeated(0, 300), repeated(1, 300), VerdictChange.UNDECIDED, 3),
    "one run before, which failed": (run(x="FAIL"), repeated(0, 300), VerdictChange.FIXED, 0),
    "one run before, which passed": (run(x="PASS"), repeated(1, 300), VerdictChange.UNDECIDED, 3),
    "another verdict, as often": (repeated(3, 10), repeated(3, 10, "SPLAT"), VerdictChange.OTHER, 0),
    "an error": (repeated(3, 10), run(x="ERROR"), VerdictChange.ERROR, 3),
}


@pytest.mark.parametrize(("before", "after", "change", "code"), RATES.values(), ids=RATES)
def test_a_repeated_case_is_judged_by_the_bounds_of_its_rate(
    before: RunRecord, after: RunRecord, change: VerdictChange, code: int
) -> None:
    found = compare(before, after)
    assert ([difference.change for difference in found.differences], found.exit_code) == ([change], code)


def test_a_rate_within_the_bounds_is_no_difference() -> None:
    assert compare(repeated(3, 10), repeated(5, 10)).differences == []
    assert compare(repeated(0, 10), repeated(0, 300)).differences == []


def test_the_rates_and_the_number_of_runs_that_would_decide_are_named() -> None:
    text = str(compare(repeated(3, 10), repeated(0, 20)))
    assert "3 of 10 failed: 30 %, between 6.7 % and 65 % at 95 % confidence; now 0 of 20 failed" in text
    assert "54 runs without a failure decide it" in text

# SPDX-License-Identifier: GPL-2.0-only
"""What the cases of a bug say of a kernel: missing, present or not judged, and the proof that they can see the bug."""

import json
from collections.abc import Mapping, Sequence

import pytest

from harness.bugs import Bug
from harness.bugs.shown import Finding, FixState, Proof, combine, hidden, judge_absence, prove, settle, trust
from harness.verdict import CaseRecord, Verdict

FIELDS = ("title", "reporter", "thread", "affected", "fixed", "symptom", "trigger")
EXPECTS = {"verdict": "FAIL", "cases": ["test_a::*"], "reason": "broken: this"}
BUG = Bug.model_validate_json(
    json.dumps({"id": "the-bug", **dict.fromkeys(FIELDS, "-"), "date": "2026", "expects": EXPECTS})
)
X, Y = "test_a::test_x", "test_a::test_y"


def case(verdict: Verdict, name: str = X, reason: str = "", **more: str) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, reason=reason, duration_s=1.0, **more)


SHOWN = case(Verdict.FAIL, reason="broken: this")
GOOD = case(Verdict.PASS)
JUDGED: Mapping[str, tuple[Sequence[CaseRecord], FixState, str]] = {
    "shown": ([SHOWN, case(Verdict.PASS, Y)], FixState.MISSING, "test_x is FAIL: broken: this"),
    "shown as a known issue": (
        [case(Verdict.KNOWN, reason="broken: this", known_issue="the-bug"), case(Verdict.PASS, Y)],
        FixState.MISSING,
        "is KNOWN",
    ),
    "shown although another case was skipped": ([SHOWN, case(Verdict.SKIP, Y)], FixState.MISSING, "is FAIL"),
    "passed": ([GOOD, case(Verdict.FIXED, Y)], FixState.PRESENT, "2 of 2 cases passed"),
    "failed otherwise": ([GOOD, case(Verdict.FAIL, Y, "broken: that")], FixState.NOT_JUDGED, "for another reason"),
    "another known issue": (
        [GOOD, case(Verdict.KNOWN, Y, "broken: this", known_issue="other")],
        FixState.NOT_JUDGED,
        "test_y is KNOWN: broken: this",
    ),
    "nothing but skipped": ([case(Verdict.SKIP), case(Verdict.SKIP, Y)], FixState.NOT_JUDGED, "is SKIP"),
    "lost": ([GOOD, case(Verdict.ERROR, Y, "QEMU died")], FixState.NOT_JUDGED, "QEMU died"),
    "skipped": ([GOOD, case(Verdict.SKIP, Y, "no rxe")], FixState.NOT_JUDGED, "test_y is SKIP: no rxe"),
    "one did not run": ([GOOD], FixState.NOT_JUDGED, "test_y did not run: no disk"),
    "nothing ran": ([], FixState.NOT_JUDGED, "test_x did not run: no disk"),
    "a case of another bug": (
        [GOOD, case(Verdict.PASS, Y), case(Verdict.FAIL, "test_b::test_x", "broken: this")],
        FixState.PRESENT,
        "passed",
    ),
}


@pytest.mark.parametrize(("cases", "state", "reason"), JUDGED.values(), ids=JUDGED)
def test_a_fix_is_present_only_if_every_case_of_its_bug_passed(
    cases: Sequence[CaseRecord], state: FixState, reason: str
) -> None:
    found = settle(judge_absence(BUG, [X, Y], cases, "no disk"))
    assert found.state is state
    assert reason in found.reason


def test_a_bug_without_a_case_on_its_machine_is_not_judged() -> None:
    assert judge_absence(BUG, [], []).state is FixState.NOT_JUDGED


PASSED = Finding(FixState.PRESENT, "2 of 2 cases passed", (X, Y), Proof.CATALOGUE)


def test_a_case_that_shows_the_bug_put_back_proves_its_absence() -> None:
    found = prove(PASSED, BUG, [SHOWN])
    assert (found.state, found.proof, found.cases) == (FixState.PRESENT, Proof.HERE, (X,))


@pytest.mark.parametrize("silent", [case(Verdict.SKIP, Y), case(Verdict.KNOWN, Y, known_issue="other")])
def test_a_case_that_says_nothing_needs_the_proof_of_another(silent: CaseRecord) -> None:
    candidate = judge_absence(BUG, [X, Y], [GOOD, silent])
    assert settle(trust(candidate, "no mutation")).state is FixState.NOT_JUDGED
    assert settle(prove(candidate, BUG, [SHOWN])).state is FixState.PRESENT
    assert prove(candidate, BUG, [GOOD, case(Verdict.FAIL, Y, "broken: this")]).state is FixState.NOT_JUDGED


BLIND: Mapping[str, Sequence[CaseRecord]] = {
    "passes": [GOOD],
    "fails for another reason": [case(Verdict.FAIL, reason="broken: that")],
    "did not pass before": [case(Verdict.FAIL, "test_a::test_z", "broken: this")],
    "did not run": [],
}


@pytest.mark.parametrize("cases", BLIND.values(), ids=BLIND)
def test_a_bug_that_its_cases_miss_when_it_is_put_back_is_not_judged(cases: Sequence[CaseRecord]) -> None:
    assert prove(PASSED, BUG, cases).state is FixState.NOT_JUDGED


def test_a_bug_that_cannot_be_put_back_is_not_judged_unless_the_catalogue_is_trusted() -> None:
    found = prove(PASSED, BUG, None, "the mutation does not apply")
    assert (found.state, found.proof) == (FixState.NOT_JUDGED, None)
    assert "the mutation does not apply" in found.reason
    found = trust(PASSED, "kernels >=7.2 show it")
    assert (found.state, found.proof) == (FixState.PRESENT, Proof.CATALOGUE)
    assert "kernels >=7.2 show it" in found.reason


def test_a_missing_fix_needs_no_proof() -> None:
    missing = Finding(FixState.MISSING, "shown")
    assert prove(missing, BUG, [GOOD]) is missing


HERE = Finding(FixState.PRESENT, "", (X,), Proof.HERE)


def test_a_fix_of_several_bugs_is_judged_by_the_worst() -> None:
    missing, unknown = Finding(FixState.MISSING, ""), Finding(FixState.NOT_JUDGED, "")
    assert combine([HERE, unknown, missing]) is missing
    assert combine([HERE, unknown]) is unknown
    assert combine([HERE, PASSED]) is PASSED, "the weaker proof counts"
    assert combine([HERE]) is HERE


def test_a_bug_that_a_missing_fix_hides_is_named_with_it() -> None:
    masked = Finding(FixState.NOT_JUDGED, "x is SPLAT for another reason", (X,))
    missing = Finding(FixState.MISSING, "shown", (Y, X))
    assert hidden(masked, {"other": missing}).reason == f"other hides it, in {X}: add its fix, and audit again"
    assert hidden(masked, {"other": Finding(FixState.MISSING, "shown", (Y,))}) is masked
    assert hidden(masked, {"other": HERE}) is masked
    assert hidden(missing, {"other": missing}) is missing

# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that repro runs, what counts as showing a bug, and the outcomes of mutants."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_records import run_record

from harness.bugs import Bug
from harness.bugs.shown import shows
from harness.commands.repro import Reproduction, Sides, sides
from harness.report.mutants import (
    BadCase,
    ControlRecord,
    Decision,
    MutantRecord,
    MutantsRecord,
    judge_mutant,
    render,
)
from harness.report.outcomes import MutantOutcome
from harness.run.options import Options
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, KernelRecord, Verdict

FIELDS = ("title", "reporter", "thread", "affected", "fixed", "symptom", "trigger")
MUTATION = {"files": ["a.c"], "functions": ["f"], "kernels": ">=6.19", "cocci": "@@ @@"}
HOSTILE = "<script>alert(1)</script>\x1b[31m"


def bug(verdict: str = "FAIL", reason: str = "broken: this", **more: object) -> Bug:
    data = {"id": "the-bug", **dict.fromkeys(FIELDS, "-"), "date": "2026"}
    expects = {"verdict": verdict, "cases": ["test_a::*"], "reason": reason}
    return Bug.model_validate_json(json.dumps({**data, "expects": expects, **more}))


def case(verdict: Verdict, name: str = "test_a::test_x", reason: str = "broken: this", **more: str) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, reason=reason, duration_s=1.0, **more)


HERE = Options(kernel="~/linux")
CHOSEN: Mapping[str, tuple[Bug, str, Options, Options | None]] = {
    "a mutation": (bug(mutation=MUTATION), "7.2", Options(kernel="~/linux", mutation="the-bug"), HERE),
    "a kernel with the bug, in spite of a mutation": (
        bug(mutation=MUTATION, kernels="<7.2.8"),
        "7.2.6",
        HERE,
        Options(),
    ),
    "a live bug with a fix": (
        bug(kernels=">=7", fix="/x/f.patch"),
        "7.2",
        HERE,
        Options("intel-iommu", "~/linux", series="/x/f.patch"),
    ),
    "a live bug of the pinned kernel, too": (bug(kernels=">=7"), "7.2", HERE, None),
    "a refuted bug": (bug("PASS"), "7.2", HERE, None),
}


@pytest.mark.parametrize(("entry", "release", "bad", "control"), CHOSEN.values(), ids=CHOSEN)
def test_sides(entry: Bug, release: str, bad: Options, control: Options | None) -> None:
    found = sides(entry, HERE, release, "7.2.12")
    assert (found.bad, found.control) == (bad, control)
    assert bool(found.why) == (control is None)


def test_a_case_shows_a_bug_as_the_entry_says() -> None:
    entry = bug()
    assert shows(entry, case(Verdict.FAIL))
    assert shows(entry, case(Verdict.KNOWN, known_issue="the-bug"))
    assert not shows(entry, case(Verdict.KNOWN, known_issue="another"))
    assert not shows(entry, case(Verdict.SPLAT))
    assert not shows(entry, case(Verdict.FAIL, reason="broken: that"))
    assert not shows(entry, case(Verdict.FAIL, name="test_b::test_x"))


BOTH = Sides(Options(mutation="the-bug"), Options())
GOOD = case(Verdict.PASS, reason="")
RESULTS: Mapping[str, tuple[Bug, Sides, CaseRecord, CaseRecord | None, int]] = {
    "reproduced": (bug(), BOTH, case(Verdict.FAIL), GOOD, 0),
    "not shown": (bug(), BOTH, GOOD, GOOD, 1),
    "shown by the control, too": (bug(), BOTH, case(Verdict.FAIL), case(Verdict.FAIL), 1),
    "a fix that does not fix": (bug(), BOTH, case(Verdict.FAIL), case(Verdict.KNOWN, known_issue="the-bug"), 1),
    "another known issue": (bug(), BOTH, case(Verdict.FAIL), case(Verdict.KNOWN, known_issue="another"), 0),
    "skipped on the control": (bug(), BOTH, case(Verdict.FAIL), case(Verdict.SKIP), 1),
    "lost on the control": (bug(), BOTH, case(Verdict.FAIL), case(Verdict.ERROR), 3),
    "no control": (bug(), Sides(Options(), None, "none"), case(Verdict.KNOWN, known_issue="the-bug"), None, 0),
    "refuted": (bug("PASS", reason=""), Sides(Options(), None, "refuted"), GOOD, None, 0),
    "refuted, and seen": (bug("PASS", reason=""), Sides(Options(), None, "refuted"), case(Verdict.FAIL), None, 1),
}


@pytest.mark.parametrize(("entry", "kernels", "bad", "control", "code"), RESULTS.values(), ids=RESULTS)
def test_reproduction(entry: Bug, kernels: Sides, bad: CaseRecord, control: CaseRecord | None, code: int) -> None:
    found = Reproduction(entry, kernels, run_record(bad), run_record(control) if control else None, Path("results"))
    assert found.exit_code == code
    lines = str(found).splitlines()
    row = next(line.split() for line in lines if line.startswith("test_a::test_x "))
    assert row[1:3] == [control.verdict if control else "-", bad.verdict]
    assert lines[-1].startswith("not as expected; ") == (code != 0)
    assert any(line.startswith("not as expected: ") for line in lines) == (code != 0)


@given(st.lists(st.sampled_from(Verdict)), st.sampled_from(sorted(KERNEL_AT_FAULT)))
def test_judging_a_mutant(verdicts: list[Verdict], expected: Verdict) -> None:
    run = run_record(*(case(verdict, name=f"test_a::test_{number}") for number, verdict in enumerate(verdicts)))
    blaming = [verdict for verdict in verdicts if verdict in KERNEL_AT_FAULT]
    for control in (None, run):
        found = judge_mutant(run, expected, control)
        assert (found.outcome is MutantOutcome.CAUGHT) == (expected in verdicts)
        assert (found.outcome is MutantOutcome.UNEXPECTED) == (bool(blaming) and expected not in verdicts)
        assert (found.outcome is MutantOutcome.ERROR) == (not blaming and Verdict.ERROR in verdicts)
        assert (found.case is None) == (found.outcome is MutantOutcome.SURVIVED)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (case(Verdict.KNOWN, known_issue="one"), case(Verdict.FIXED, known_issue="one")),
        (case(Verdict.PASS), case(Verdict.KNOWN, known_issue="one")),
        (case(Verdict.KNOWN, known_issue="one"), case(Verdict.KNOWN, known_issue="another")),
        (case(Verdict.PASS), case(Verdict.SKIP)),
    ],
)
def test_a_verdict_that_differs_from_the_control_is_noticed_and_named(was: CaseRecord, now: CaseRecord) -> None:
    same = case(Verdict.PASS, name="test_a::test_same")
    found = judge_mutant(run_record(same, now), Verdict.FAIL, run_record(was, same))
    assert found == Decision(MutantOutcome.CHANGED, now, was)
    assert judge_mutant(run_record(same, was), Verdict.FAIL, run_record(was, same)).outcome is MutantOutcome.SURVIVED


def test_a_failure_decides_before_a_changed_verdict() -> None:
    better = case(Verdict.FIXED, known_issue="one")
    known, passed = case(Verdict.KNOWN, known_issue="one"), case(Verdict.PASS, name="test_a::test_y")
    failed = case(Verdict.FAIL, name="test_a::test_y")
    found = judge_mutant(run_record(better, failed), Verdict.FAIL, run_record(known, passed))
    assert found == Decision(MutantOutcome.CAUGHT, failed, passed)


def test_a_case_that_the_control_did_not_run_says_nothing() -> None:
    found = judge_mutant(run_record(case(Verdict.FIXED, known_issue="one")), Verdict.FAIL, run_record())
    assert found == Decision(MutantOutcome.SURVIVED)


def mutants(*outcomes: MutantOutcome, bad: Verdict | None = None, text: str = "text") -> MutantsRecord:
    bad_cases = [BadCase(verdict=bad, case=text, reason=text)] if bad else []
    place = {"machine": text, "flavour": "release", "seconds": 1.0, "results": text}
    return MutantsRecord.model_validate(
        {
            "run_id": text,
            "started": text,
            "duration_s": 1.0,
            "harness": text,
            "kernel": KernelRecord(release=text, origin=text, config_hash=text),
            "summary": {outcome: outcomes.count(outcome) for outcome in MutantOutcome},
            "controls": [ControlRecord.model_validate({**place, "summary": {"PASS": 1}, "bad": bad_cases})],
            "mutants": [
                MutantRecord.model_validate(
                    {**place, "id": text, "title": text, "expected": "FAIL", "outcome": o, "case": text, "reason": text}
                )
                for o in outcomes
            ],
            "left_out": [text],
        }
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (mutants(MutantOutcome.CAUGHT), 0),
        (mutants(MutantOutcome.CAUGHT, MutantOutcome.SURVIVED), 1),
        (mutants(MutantOutcome.UNEXPECTED), 1),
        (mutants(MutantOutcome.CAUGHT, MutantOutcome.CHANGED), 1),
        (mutants(MutantOutcome.CAUGHT, MutantOutcome.ERROR), 3),
        (mutants(MutantOutcome.ERROR, MutantOutcome.SURVIVED), 1),
        (
            mutants(MutantOutcome.CAUGHT, bad=Verdict.FAIL),
            1,
        ),
        (mutants(MutantOutcome.CAUGHT, bad=Verdict.ERROR), 3),
    ],
)
def test_exit_code(found: MutantsRecord, code: int) -> None:
    assert found.exit_code == code


def test_the_page_is_safe_with_hostile_text() -> None:
    page = render(mutants(MutantOutcome.UNEXPECTED, bad=Verdict.FAIL, text=HOSTILE))
    assert "<script" not in page
    assert "\x1b" not in page
    assert page.count("&lt;script&gt;") > 5

# SPDX-License-Identifier: GPL-2.0-only
"""Automatic mutants: what counts as noticed, the score, and the page."""

from pathlib import Path

import pytest
from made_nights import run_record

from harness.errors import UsageError
from harness.report.auto_mutants import (
    AutoMutantRecord,
    AutoMutantsRecord,
    excerpt,
    read,
    render,
)
from harness.report.outcomes import MutantOutcome, changed_cases, untested_cases
from harness.verdict import CaseRecord, KernelRecord, RunRecord, Verdict

KERNEL = KernelRecord(release="7.2.12", origin="debian:7.2.12", config_hash="0")


def run(**verdicts: Verdict) -> RunRecord:
    cases = [
        CaseRecord(
            id=name,
            area="a",
            title="t",
            verdict=verdict,
            reason="r",
            duration_s=1.0,
            known_issue="bug" if verdict in (Verdict.KNOWN, Verdict.FIXED) else None,
        )
        for name, verdict in verdicts.items()
    ]
    return run_record(cases)


@pytest.mark.parametrize(
    ("before", "after", "noticed"),
    [
        (Verdict.PASS, Verdict.FAIL, True),
        (Verdict.PASS, Verdict.SKIP, True),
        (Verdict.KNOWN, Verdict.FIXED, True),
        (Verdict.KNOWN, Verdict.KNOWN, False),
        (Verdict.PASS, Verdict.PASS, False),
        (Verdict.PASS, Verdict.ERROR, False),
        (Verdict.ERROR, Verdict.PASS, False),
    ],
)
def test_any_other_verdict_is_noticed_but_never_an_error_of_ours(
    before: Verdict, after: Verdict, noticed: bool
) -> None:
    found = changed_cases(run(one=Verdict.PASS, two=before), run(one=Verdict.PASS, two=after))
    assert [[was.verdict, case.verdict] for was, case in found] == ([[before, after]] if noticed else [])


def test_a_case_that_did_not_run_says_nothing() -> None:
    assert changed_cases(run(one=Verdict.PASS), run(two=Verdict.FAIL)) == []


def test_a_case_that_became_an_error_is_untested_and_not_noticed() -> None:
    control = run(one=Verdict.PASS, two=Verdict.ERROR)
    found = untested_cases(control, run(one=Verdict.ERROR, two=Verdict.ERROR, three=Verdict.ERROR))
    assert [case.id for case in found] == ["one"]


def mutant(outcome: MutantOutcome, **more: object) -> AutoMutantRecord:
    values = {"id": "f-2-drop-call", "file": "x.c", "function": "f", "line": 2, "rule": "drop-call", "machine": "m"}
    return AutoMutantRecord(**values, description="g(); -> { }", outcome=outcome, **more)


def record(*outcomes: MutantOutcome) -> AutoMutantsRecord:
    return AutoMutantsRecord(
        run_id="1",
        started="2026-11-28T00:00:00+00:00",
        duration_s=1.0,
        harness="0",
        kernel=KERNEL,
        seed=1,
        candidates=9,
        refused=1,
        same=2,
        control={"PASS": 1},
        unstable=[],
        mutants=[mutant(outcome, reason="<script>") for outcome in outcomes],
    )


def test_the_score_leaves_out_what_nothing_can_notice_and_what_was_not_tested() -> None:
    found = record(*[MutantOutcome.CAUGHT] * 3, MutantOutcome.SURVIVED, MutantOutcome.EQUIVALENT, MutantOutcome.ERROR)
    assert found.score == 0.75
    assert found.tally() == "3 caught, 1 SURVIVED, 1 equivalent, 1 ERROR; score 75%"
    assert found.exit_code == 3
    assert record(MutantOutcome.SURVIVED).exit_code == 0
    assert record().score is None


def test_the_page_shows_survivors_in_their_source_and_escapes_text() -> None:
    page = render(record(MutantOutcome.SURVIVED, MutantOutcome.CAUGHT), {"x.c": ["int f()", "\tg(a < b);", "}"]})
    assert "g(a &lt; b);" in page
    assert "<script>" not in page


def test_an_excerpt_stays_within_the_file() -> None:
    assert excerpt(["a", "b"], 1) == [(1, "a", True), (2, "b", False)]


def test_a_record_is_read_again(tmp_path: Path) -> None:
    written = record()
    (tmp_path / "auto-mutants.json").write_text(written.model_dump_json(by_alias=True))
    assert read(tmp_path) == written


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ('{"schema": "another/1"}', "the schema is 'another/1'"),
        ('{"schema": "vfio-harness/auto-mutants/1", "seed": "x"}', "auto-mutants.json: run_id: this field is missing"),
    ],
)
def test_what_is_no_record_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / "auto-mutants.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        read(tmp_path)

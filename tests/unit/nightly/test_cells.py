# SPDX-License-Identifier: GPL-2.0-only
"""Which of a cell's runs counts, and why a case has no verdict."""

from pathlib import Path
from typing import Any

import pytest

from harness.nightly.cells import NightVerdicts
from harness.nightly.record import Why
from harness.verdict import CaseRecord, Verdict


def case(verdict: Verdict) -> list[CaseRecord]:
    return [CaseRecord(id="a::b", area="a", title="t", verdict=verdict, duration_s=1.0)]


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ([(Why.PLAN, Verdict.FAIL), (Why.RATE, Verdict.PASS)], "FAIL"),
        ([(Why.PLAN, Verdict.FAIL), (Why.AGAIN, Verdict.PASS)], "FAIL"),
        ([(Why.PLAN, Verdict.ERROR), (Why.AGAIN, Verdict.PASS)], "PASS"),
        ([(Why.PLAN, Verdict.ERROR), (Why.AGAIN, Verdict.ERROR)], "ERROR"),
        ([(Why.PLAN, Verdict.PASS), (Why.PLAN, Verdict.FAIL)], "FAIL"),
        ([(Why.RATE, Verdict.PASS)], None),
    ],
)
def test_no_repetition_turns_a_failure_into_a_pass(
    nights: Any, make_run: Any, runs: list[tuple[Why, Verdict]], verdict: str | None
) -> None:
    nights.cell("c", *(make_run(case(found), why) for why, found in runs), cases=["a::b"])
    (cell,) = NightVerdicts.read(nights.write()).cells
    found = cell.verdict("a::b")
    assert (found and found.case.verdict) == verdict


def test_a_case_without_a_verdict_has_a_reason(nights: Any, make_run: Any) -> None:
    nights.cell("none", cases=["a::b"])
    nights.cell("lost", make_run(None, error="the worker was lost"), cases=["a::b"])
    nights.cell("killed", make_run(None, exit_code=None), cases=["a::b"])
    nights.cell("damaged", make_run(None), cases=["a::b"])
    nights.cell("short", make_run(case(Verdict.PASS)), cases=["a::b", "a::c"])
    directory: Path = nights.write()
    reasons = {cell.cell.id: cell.missing for cell in NightVerdicts.read(directory).cells}
    assert reasons == {
        "none": {"a::b": "the cell has not run"},
        "lost": {"a::b": "the worker was lost"},
        "killed": {"a::b": "the night was killed while it ran"},
        "damaged": {"a::b": "the run has no record: cells/damaged/1/report.json: No such file or directory"},
        "short": {"a::c": "the run has ended without judging it"},
    }
    merged = [cell.merged() for cell in NightVerdicts.read(directory).cells]
    assert [record.summary["PASS"] if record else None for record in merged] == [None, None, None, None, 1]

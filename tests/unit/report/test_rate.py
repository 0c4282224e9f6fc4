# SPDX-License-Identifier: GPL-2.0-only
"""The rate of a repeated case, and its confidence bounds."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.rate import CONFIDENCE, as_text, bounds, merged, rate_of, runs_to_fix
from harness.verdict import CaseRecord, Verdict

# The exact bounds have a closed form at both ends, and between them are in many tables, e.g. for 1 and 3 of 10.
KNOWN: Mapping[str, tuple[int, int, float, float]] = {
    "none of 10": (0, 10, 0.0, 0.30850),
    "1 of 10": (1, 10, 0.00253, 0.44502),
    "3 of 10": (3, 10, 0.06674, 0.65245),
    "all of 10": (10, 10, 0.69150, 1.0),
    "none of 300": (0, 300, 0.0, 0.01222),
    "1 of 669": (1, 669, 0.0000378, 0.0083),
    "none at all": (0, 0, 0.0, 1.0),
    "one of one": (1, 1, 0.025, 1.0),
}


@pytest.mark.parametrize(("bad", "runs", "low", "high"), KNOWN.values(), ids=KNOWN)
def test_bounds_are_those_of_clopper_and_pearson(bad: int, runs: int, low: float, high: float) -> None:
    assert bounds(bad, runs) == pytest.approx((low, high), abs=2e-5)


@given(st.integers(1, 400).flatmap(lambda runs: st.tuples(st.integers(0, runs), st.just(runs))))
def test_bounds_enclose_the_rate_seen_and_mirror_each_other(counts: tuple[int, int]) -> None:
    bad, runs = counts
    low, high = bounds(bad, runs)
    assert low <= bad / runs <= high
    assert bounds(runs - bad, runs) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_thousands_of_runs_are_no_trouble() -> None:
    low, high = bounds(5_000, 100_000)
    assert (low, high) == pytest.approx((0.0487, 0.0514), abs=1e-4)


def test_after_a_failure_that_ended_the_runs_they_are_those_of_the_geometric_distribution() -> None:
    tail = (1 - CONFIDENCE) / 2
    low, high = bounds(1, 40, stopped=True)
    assert low == pytest.approx(1 - (1 - tail) ** (1 / 40))
    assert high == pytest.approx(1 - tail ** (1 / 39))
    assert bounds(1, 1, stopped=True) == (pytest.approx(tail), 1.0)


@given(st.integers(1, 20), st.integers(20, 300))
def test_enough_runs_without_a_failure_fall_below_an_earlier_rate(bad: int, runs: int) -> None:
    low, _ = bounds(bad, runs)
    needed = runs_to_fix(low)
    assert bounds(0, needed)[1] < low
    assert needed == 1 or bounds(0, needed - 1)[1] >= low * (1 - 1e-9)


def case(verdict: Verdict, name: str = "test_a::test_x", seed: int = 0) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, duration_s=1.0, seed=seed)


def test_known_counts_as_a_failure_and_error_and_skip_do_not_count() -> None:
    found = rate_of([Verdict.PASS, Verdict.KNOWN, Verdict.FIXED, Verdict.ERROR, Verdict.SKIP, Verdict.SPLAT])
    assert (found.bad, found.runs, found.not_counted) == (2, 4, 2)


def test_the_first_of_the_worst_repetitions_stands_for_all() -> None:
    runs = [
        case(Verdict.PASS, seed=1),
        case(Verdict.PASS, "test_a::test_y"),
        case(Verdict.KNOWN, seed=2),
        case(Verdict.FAIL, seed=3),
        case(Verdict.ERROR, seed=4),
        case(Verdict.FAIL, seed=5),
    ]
    first, second = merged(runs)
    assert (first.verdict, first.seed) == (Verdict.FAIL, 3)
    assert first.rate
    assert (first.rate.bad, first.rate.runs, first.rate.not_counted) == (3, 4, 1)
    assert (second.verdict, second.rate and second.rate.bad) == (Verdict.PASS, 0)


def test_an_error_decides_only_if_all_are_errors() -> None:
    (found,) = merged([case(Verdict.ERROR), case(Verdict.ERROR)])
    assert found.verdict is Verdict.ERROR
    (found,) = merged([case(Verdict.ERROR), case(Verdict.SKIP)])
    assert found.verdict is Verdict.SKIP
    assert found.rate
    assert as_text(found.rate) == "no repetition counts: 2 were ERROR or SKIP"


def test_text() -> None:
    assert as_text(rate_of([Verdict.FAIL] * 3 + [Verdict.PASS] * 297)) == (
        "3 of 300 failed: 1 %, between 0.21 % and 2.9 % at 95 % confidence"
    )
    assert as_text(rate_of([Verdict.FAIL, Verdict.ERROR])) == (
        "1 of 1 failed: 100 %, between 2.5 % and 100 % at 95 % confidence; 1 more were ERROR or SKIP"
    )

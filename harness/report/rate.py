# SPDX-License-Identifier: GPL-2.0-only
"""How often a repeated case fails, with the confidence bounds of that rate.

The bounds are those of Clopper and Pearson (Biometrika 26, 1934), found by bisection on the binomial distribution. They
hold for any rate and any number of runs; Wilson's, which ``statistics.NormalDist`` would give, fall below their
confidence near 0, where the rates of races lie. SciPy has them too, but weighs 35 MB, for one function.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.verdict import KERNEL_AT_FAULT, CaseRecord, RateRecord, Verdict, worst_of

CONFIDENCE = 0.95
"""The chance that the bounds include the true rate is at least this."""
FAILED = KERNEL_AT_FAULT | {Verdict.KNOWN}
"""The verdicts that count as failures."""
UNCOUNTED = frozenset({Verdict.ERROR, Verdict.SKIP})
"""A repetition with one of these says nothing about how often a case fails."""
_STEPS = 60
"""Each step of the bisection halves the error of a bound."""


def bounds(bad: int, runs: int, *, stopped: bool = False) -> tuple[float, float]:
    """Return the lower and the upper bound of a failure rate, at ``CONFIDENCE``.

    Args:
        bad: How many runs failed.
        runs: How many ran.
        stopped: Whether the last failure ended the runs, so that their number was random, and not that of failures.
    """
    tail = (1 - CONFIDENCE) / 2
    low = _solve(lambda p: 1 - _at_most(bad - 1, runs, p) < tail) if bad else 0.0
    if stopped:  # the last run is a failure by design: the others had one failure less
        bad, runs = bad - 1, runs - 1
    high = _solve(lambda p: _at_most(bad, runs, p) > tail) if bad < runs else 1.0
    return low, high


def runs_to_fix(low: float) -> int:
    """Return how many runs without a failure have an upper bound below ``low``, which is above 0."""
    return math.floor(math.log((1 - CONFIDENCE) / 2) / math.log1p(-low)) + 1 if low < 1 else 1


def _at_most(bad: int, runs: int, p: float) -> float:
    """Return the probability of at most ``bad`` failures in ``runs`` runs with the failure rate ``p``."""
    if bad < 0:
        return 0.0
    if p in (0.0, 1.0):
        return 1.0 if p == 0.0 or bad >= runs else 0.0
    logs = (
        math.lgamma(runs + 1)
        - math.lgamma(k + 1)
        - math.lgamma(runs - k + 1)
        + k * math.log(p)
        + (runs - k) * math.log1p(-p)
        for k in range(bad + 1)
    )
    return math.fsum(map(math.exp, logs))


def _solve(below: Callable[[float], bool]) -> float:
    """Return the rate up to which ``below`` holds."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low


def count(verdicts: Mapping[str, int]) -> tuple[int, int]:
    """Return how many judgements failed, and how many count. ``verdicts``: how often each was given."""
    runs = {verdict: times for verdict, times in verdicts.items() if verdict not in UNCOUNTED}
    return sum(times for verdict, times in runs.items() if verdict in FAILED), sum(runs.values())


def short_text(verdicts: Mapping[str, int]) -> str:
    """Format how often a case failed: ``3 of 10``. ``verdicts``: how often each was given."""
    bad, runs = count(verdicts)
    return _of(bad, runs)


def rate_of(verdicts: Iterable[Verdict], *, until_fail: bool = False) -> RateRecord:
    """Return the rate of a case. ``until_fail``: its first failure ended the runs."""
    found = Counter(map(str, verdicts))
    bad, runs = count(found)
    low, high = bounds(bad, runs, stopped=until_fail and bad > 0)
    return RateRecord(
        bad=bad,
        runs=runs,
        not_counted=found.total() - runs,
        low=low,
        high=high,
        confidence=CONFIDENCE,
    )


def as_text(rate: RateRecord) -> str:
    """Format a rate: ``3 of 300 failed: 1 %, between 0.21 % and 2.9 % at 95 % confidence``."""
    if not rate.runs:
        return f"no repetition counts: {rate.not_counted} were ERROR or SKIP"
    left_out = f"; {rate.not_counted} more were ERROR or SKIP" if rate.not_counted else ""
    return (
        f"{_of(rate.bad, rate.runs)} failed: {_percent(rate.bad / rate.runs)}, between {_percent(rate.low)} and "
        f"{_percent(rate.high)} at {_percent(rate.confidence)} confidence{left_out}"
    )


def _of(bad: int, runs: int) -> str:
    return f"{bad} of {runs}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction < 0.99 else f"{100 * fraction:.4g} %"


def merged(records: Sequence[CaseRecord], *, until_fail: bool = False) -> list[CaseRecord]:
    """Make one record of the repetitions of each case: the worst, see ``worst_of``."""
    cases: dict[str, list[CaseRecord]] = {}
    for record in records:
        cases.setdefault(record.id, []).append(record)
    return [
        worst_of(found).model_copy(
            update={"rate": rate_of((record.verdict for record in found), until_fail=until_fail)}
        )
        for found in cases.values()
    ]

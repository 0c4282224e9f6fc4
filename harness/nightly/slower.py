# SPDX-License-Identifier: GPL-2.0-only
"""The cases that took much longer this night than they usually do."""

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.nightly.outcomes import deciding, recorded_runs
from harness.nightly.record import Night
from harness.verdict import CaseRecord

FACTOR = 2.0
"""How many times its usual time a case must take. A busy host slows all cases, so less says nothing about a kernel."""
LEAST_S = 2.0
"""How many seconds longer it must take."""


def slower_cases(night: Night, directory: Path, usual: Callable[[str], Mapping[str, float]]) -> list[str]:
    """Return a line for each case that took much longer than usual, the longest delay first.

    Args:
        night: The night.
        directory: Its directory.
        usual: Returns the usual seconds of each case of a cell: ``History.durations``.
    """
    found: list[tuple[float, str]] = []
    for result in night.results:
        before = usual(result.cell)
        found += [
            (case.duration_s - before[case.id], _line(result.cell, case, before[case.id]))
            for case in deciding(recorded_runs(result, directory)).values()
            if case.id in before and _is_slower(case.duration_s, before[case.id])
        ]
    return [line for _, line in sorted(found, reverse=True)]


def _is_slower(now: float, before: float) -> bool:
    return now > FACTOR * before and now > before + LEAST_S


def _line(cell: str, case: CaseRecord, before: float) -> str:
    return f"{case.id} in {cell}: {case.duration_s:.1f} s, usually {before:.1f} s"

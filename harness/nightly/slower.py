# SPDX-License-Identifier: GPL-2.0-only
"""The cases that took much longer this night than they usually do."""

from collections.abc import Callable, Mapping

from harness.nightly.cells import NightVerdicts
from harness.verdict import CaseRecord

FACTOR = 2.0
"""How many times its usual time a case must take. A busy host slows all cases, so less says nothing about a kernel."""
LEAST_S = 2.0
"""How many seconds longer it must take."""


def slower_cases(verdicts: NightVerdicts, usual: Callable[[str], Mapping[str, float]]) -> list[str]:
    """Return a line for each case that took much longer than usual, the longest delay first.

    Args:
        verdicts: The night.
        usual: Returns the usual seconds of each case of a cell: ``History.durations``.
    """
    found: list[tuple[float, str]] = []
    for cell in verdicts.cells:
        before = usual(cell.cell.id)
        found += [
            (case.duration_s - before[case.id], _line(cell.cell.id, case, before[case.id]))
            for case in cell.decided.values()
            if case.id in before and _is_slower(case.duration_s, before[case.id])
        ]
    return [line for _, line in sorted(found, reverse=True)]


def _is_slower(now: float, before: float) -> bool:
    return now > FACTOR * before and now > before + LEAST_S


def _line(cell: str, case: CaseRecord, before: float) -> str:
    return f"{case.id} in {cell}: {case.duration_s:.1f} s, usually {before:.1f} s"

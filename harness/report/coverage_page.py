# SPDX-License-Identifier: GPL-2.0-only
"""The page of the kernel's coverage: the annotated source of the export path."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.gcov.counters import Reached
from harness.gcov.measure import KernelCoverage
from harness.gcov.reasons import Gaps
from harness.report import pages
from harness.report.text import counted

MAX_CASES = 12
"""Cases that a line names; the rest is counted."""


@dataclass(frozen=True)
class Line:
    """A line of the annotated source."""

    number: int
    text: str
    state: str
    """The page's colour: good, warn (branches missed), bad, info (unreached, with a reason), or none: no code."""
    note: str
    """How many cases reach it, and which; or why none does."""


def render(found: KernelCoverage, gaps: Gaps, release: str, runs: Sequence[str]) -> str:
    """Render the page."""
    by_line = {(gap.file, gap.line): gap for gap in gaps.found}
    functions = []
    for function in found.functions.values():
        source = found.sources[function.file]
        rows = []
        for number in range(min(function.lines), max(function.lines) + 1):
            cases = function.lines.get(number)
            gap = by_line.get((function.file, number))
            if cases is None:
                rows.append(Line(number, source[number - 1], "", ""))
                continue
            state = "good" if gap is None else "info" if gap.reason else "warn" if cases else "bad"
            missed = f"{gap.branches} branches not taken; " if gap and gap.reached else ""
            note = gap.reason.reason if gap and gap.reason else f"{missed}{_named(cases)}"
            rows.append(Line(number, source[number - 1], state, note))
        functions.append((function, rows))
    return pages.render(
        "kernel-coverage.html",
        title=f"vfio-harness: the export path of Linux {release}, and what the cases reach",
        runs=runs,
        functions=functions,
        unexplained=gaps.unexplained,
        shares=shares(found, gaps),
    )


def shares(found: KernelCoverage, gaps: Gaps) -> str:
    """Return the shares of lines and branches that are reached, in one sentence."""
    (reached, lines), (taken, branches) = found.line_count, found.branch_count
    possible = branches - gaps.impossible_branches
    return (
        f"{reached} of {lines} lines ({_share(reached, lines)}) and {taken} of {branches} branches "
        f"({_share(taken, branches)}): {_share(taken, possible)} of the {possible} that a kernel without bugs can take"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.1%}"


def _named(reached: Collection[Reached]) -> str:
    if not reached:
        return "no case"
    machines: dict[str, list[str]] = {}
    for case in sorted(reached):
        machines.setdefault(case.id, []).append(case.place)
    named = [f"{case} ({', '.join(found)})" for case, found in machines.items()]
    more = f" and {len(named) - MAX_CASES} more" if len(named) > MAX_CASES else ""
    return f"{counted(len(named), 'case')}: {', '.join(named[:MAX_CASES])}{more}"

# SPDX-License-Identifier: GPL-2.0-only
"""Bisects the failures that are new in a night, where its kernel is a commit of a git tree."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands import bisect
from harness.errors import HarnessError
from harness.kernel.source import commit as commits
from harness.nightly.again import options_of
from harness.nightly.cells import NightVerdicts
from harness.nightly.history import History
from harness.nightly.record import RUN, CaseChange, Cell
from harness.progress import Emit, Event, Note
from harness.verdict import GOOD, KERNEL_AT_FAULT, Verdict

MOST_SEARCHES = 3
"""Searches of a night. Each builds and runs several kernels; more new failures at once have few causes in common."""
MOST_CASES = 8
"""Cases that judge the commits of one search. The others then run on the commit that it finds, and before it."""


@dataclass(frozen=True)
class _Range:
    """Where a failure came into a cell's tree."""

    cell: str
    good: str
    """The commit of the last night in which the cases passed, 40 hex digits."""
    bad: str
    """The commit of this night."""


def with_commits(
    changes: Sequence[CaseChange], verdicts: NightVerdicts, history: History, emit: Emit, left_s: float | None
) -> list[CaseChange]:
    """Return the changes, with the first bad commit of each new failure that could be bisected.

    Args:
        changes: What has changed.
        verdicts: The night.
        history: Knows the commits of earlier nights.
        emit: Gets the progress, and a note for each search that fails.
        left_s: How long all searches may take, in seconds; None: as long as they need.
    """
    ends = None if left_s is None else time.monotonic() + left_s
    found: dict[tuple[str, str], str] = {}
    left = MOST_SEARCHES
    for where, cases in _ranges(changes, verdicts, history).items():
        cell = next(cell for cell in verdicts.night.cells if cell.id == where.cell)
        unknown = cases
        while unknown and left:
            left -= 1
            blamed = _search(cell, where, unknown, _stopping(emit, ends))
            found |= {(where.cell, case): commit for case, commit in blamed.items()}
            unknown = [case for case in unknown if case not in blamed] if blamed else []
    return [change.model_copy(update={"commit": found.get((change.cell, change.case), "")}) for change in changes]


def _ranges(changes: Iterable[CaseChange], verdicts: NightVerdicts, history: History) -> dict[_Range, list[str]]:
    """Return the cases to bisect, by where their failure came in."""
    bad = _commits(verdicts)
    ranges: dict[_Range, list[str]] = defaultdict(list)
    for change in changes:
        good = history.last_good_night(change.cell, change.case) if change.kind == "broken" else None
        if good and good.kernel.commit and change.cell in bad and bad[change.cell] != good.kernel.commit:
            ranges[_Range(change.cell, good.kernel.commit, bad[change.cell])].append(change.case)
    return ranges


def _commits(verdicts: NightVerdicts) -> dict[str, str]:
    """Return the commit that each cell has tested, for cells whose kernel is a clean commit of a git tree.

    Those of kvm-test are left out: a bisection uses the host's accelerator.
    """
    found = {}
    for cell in (each for each in verdicts.cells if each.cell.command == RUN):
        for _, record in cell.recorded:
            if record.kernel.git and not record.kernel.git.dirty:
                found[cell.cell.id] = record.kernel.git.commit
    return found


def _search(cell: Cell, where: _Range, cases: Sequence[str], emit: Emit) -> dict[str, str]:
    """Return the first bad commit, for those of the cases that became bad on it; empty if there is none.

    A commit is bad if any of the first ``MOST_CASES`` cases is. So these are good on the one before the first bad one.
    """
    try:
        named = commits.parse(cell.kernel or "")
        tree = commits.repository(named, emit) if named else Path(cell.kernel or "").expanduser()
        judges = replace(options_of(cell), expression=_expression(cases[:MOST_CASES]))
        more = replace(judges, expression=_expression(cases)) if len(cases) > MOST_CASES else None
        found = bisect.find_first_bad(tree, (where.good, where.bad), judges, emit, more)
    except HarnessError as error:
        emit(Note(f"{where.cell}: not bisected: {error}"))
        return {}
    if found.exit_code or not found.verdicts:
        emit(Note(f"{where.cell}: {found}"))
        return {}
    commit = f"{found.suspects[0].sha} {found.suspects[0].subject}"
    before = found.before.cases if found.before else ()
    bad_before = {case.id for case in before if case.verdict not in GOOD | {Verdict.KNOWN}}
    bad = {case.id for case in found.verdicts.cases if case.verdict in KERNEL_AT_FAULT}
    return {case: commit for case in cases if case in bad - bad_before}


def _expression(cases: Iterable[str]) -> str:
    return " or ".join(case.rpartition("::")[2] for case in cases)


def _stopping(emit: Emit, ends: float | None) -> Emit:
    """Return an ``emit`` that raises HarnessError when the time is over. A search emits once a second."""

    def stopping(event: Event) -> None:
        if ends is not None and time.monotonic() > ends and not isinstance(event, Note):
            raise HarnessError("the night has no time left")
        emit(event)

    return stopping

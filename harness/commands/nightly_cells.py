# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a plan: the cases that each selects, the arguments of its runs, and how they are shown."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import paths
from harness.cases.collect import Collected, node_id_of
from harness.config.loader import nearest
from harness.errors import HarnessError, UsageError
from harness.nested import recipe
from harness.nightly.again import options_of
from harness.nightly.history import has_nights, open_history
from harness.nightly.outcomes import order_of
from harness.nightly.record import RUN, Cell
from harness.progress import Emit, Note
from harness.report.text import counted
from harness.run.select import Candidate, select

MOST_JOBS = 256
"""The largest matrix of GitHub Actions; source: GitHub's documentation of ``jobs.<job_id>.strategy.matrix``."""


@dataclass(frozen=True)
class CaseList:
    """The cases of the suites, as pytest collected them."""

    collected: Sequence[Collected]

    def of(self, cell: Cell) -> list[str]:
        """Return the ids of the cases that a cell's run selects. Raises UsageError if there are none."""
        candidates = [
            Candidate(case.id, case.machines, frozenset({*case.rows, *(row.partition(".")[0] for row in case.rows)}))
            for case in self.collected
        ]
        selected = [candidates[index].id for index in select(candidates, options_of(cell))]
        if cell.command == RUN:
            return selected
        kvm_test = recipe.load()
        if not (required := [case for case in selected if kvm_test.requires(case)]):
            raise UsageError(f"{cell.machine} runs no case that {recipe.PATH} requires")
        return required

    def node_ids(self, cases: Sequence[str]) -> list[str]:
        """Return the node ids of these cases, for a command line, relative to ``paths.TOP``."""
        where = {case.id: case.where for case in self.collected}
        # A case that is gone is then named by the error of its run.
        return [where.get(case) or str(node_id_of(case).relative_to(paths.TOP)) for case in cases]


def chosen_cells(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """Return the cells of these names; all without names. Raises UsageError for a name that does not exist."""
    known = [cell.id for cell in cells]
    for name in names:
        if name not in known:
            hint = "vfio-harness nightly --show lists the cells"
            raise UsageError(f"no cell {name!r} in the plan{nearest(name, known)}", hint=hint)
    return [cell for cell in cells if cell.id in names] if names else list(cells)


@dataclass(frozen=True)
class EarlierRuns:
    """What the earlier nights say of the cells, by their ids."""

    expected_s: Mapping[str, float] = field(default_factory=dict)
    """How long each usually takes, in seconds."""
    last_night: Mapping[str, str] = field(default_factory=dict)
    """The newest night in which each has begun to run."""


def earlier_runs(nights: Path, emit: Emit) -> EarlierRuns:
    """Ask the history in ``nights``. It decides the order only: if it cannot be used, ``emit`` gets a note."""
    if not has_nights(nights):
        return EarlierRuns()
    try:
        with open_history(nights, emit) as history:
            return EarlierRuns(history.expected_seconds(), history.last_nights())
    except HarnessError as error:
        emit(Note(f"history: {error}"))
        return EarlierRuns()


def in_order(cells: Sequence[Cell], last_night: Mapping[str, str]) -> list[Cell]:
    """Sort the cells as they run: first those that have waited for the most nights, and of these the longest first.

    So a night that is too short for all cells leaves out other ones each time. A cell that the deadline has ended had
    its turn: it waits for the others. One of unknown duration counts as the longest.
    """

    def key(cell: Cell) -> tuple[tuple[int, ...], float]:
        unknown = float("inf")
        return order_of(last_night.get(cell.id, "")), -(unknown if cell.expected_s is None else cell.expected_s)

    return sorted(cells, key=key)


def as_text(cells: Sequence[Cell], budget_s: float | None, last_night: Mapping[str, str]) -> str:
    """Format the cells as a table, in the order in which they run, with expected time and last run.

    A cell that takes longer than the budget never runs: it is named."""
    rows = [("cell", "cases", "expected", "last run", "owner")]
    rows += [
        (cell.id, str(len(cell.cases)), duration(cell.expected_s), last_night.get(cell.id, "-"), cell.owner)
        for cell in cells
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    pads: tuple[Callable[[str, int], str], ...] = (str.ljust, str.rjust, str.rjust, str.ljust)
    lines = ["  ".join([*map(lambda pad, word, width: pad(word, width), pads, row, widths), row[4]]) for row in rows]
    known = [cell.expected_s for cell in cells if cell.expected_s is not None]
    total = counted(len(cells), "cell")
    if known:
        total += f": {duration(sum(known))}" + (" one after the other" if len(cells) > 1 else "")
    if len(known) < len(cells):
        total += f"; {len(cells) - len(known)} of unknown duration"
    if budget_s is not None:
        total += f"; budget: {duration(budget_s)}"
    too_long = [cell.id for cell in cells if budget_s is not None and (cell.expected_s or 0.0) > budget_s]
    notes = [f"{name} takes longer than the budget, and will not run" for name in too_long]
    return "\n".join([*(line.rstrip() for line in lines), "", total, *notes])


def duration(seconds: float | None) -> str:
    """Format seconds as hours, minutes and seconds, e.g. ``0:02:05``; ``-`` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def as_matrix(cells: Sequence[Cell]) -> str:
    """Format the cells as a matrix of GitHub Actions: one job for each, with its subcommand and the arguments of that.

    Raises UsageError for more cells than a matrix may have.
    """
    if len(cells) > MOST_JOBS:
        raise UsageError(
            f"the plan has {len(cells)} cells, and a matrix at most {MOST_JOBS} jobs", hint="choose with --cell"
        )
    jobs = [
        {"cell": cell.id, "command": cell.command, "args": shlex.join(options_of(cell).arguments(cell.command))}
        for cell in cells
    ]
    return json.dumps({"include": jobs})

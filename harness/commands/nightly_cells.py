# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a plan: the cases that each selects, its options for ``vfio-harness run``, and how they are shown."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from harness import paths
from harness.cases.collect import Collected
from harness.config.loader import nearest
from harness.errors import UsageError
from harness.kernel import Flavour
from harness.nightly.record import Cell
from harness.run.options import Options
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
        return [candidates[index].id for index in select(candidates, options_of(cell))]

    def node_ids(self, cases: Sequence[str]) -> list[str]:
        """Return the node ids of these cases, for ``vfio-harness run``, relative to ``paths.TOP``."""
        where = {case.id: case.where for case in self.collected}
        return [where.get(case, _usual_place(case)) for case in cases]


def _usual_place(case: str) -> str:
    """Return the node id that a case of today would have. One that is gone is then named by the error of its run."""
    module, _, name = case.partition("::")
    return f"{paths.VM_CASES.relative_to(paths.TOP)}/{module}.py::{name}"


def options_of(cell: Cell) -> Options:
    """Return the options of a cell's run."""
    return Options(
        kernel=cell.kernel,
        series=cell.series,
        flavour=cast(Flavour, cell.flavour),
        machine=cell.machine,
        suite=cell.suite,
        qemu=cell.qemu,
        focus=cell.focus,
    )


def chosen_cells(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """Return the cells of these names; all without names. Raises UsageError for a name that does not exist."""
    known = [cell.id for cell in cells]
    for name in names:
        if name not in known:
            hint = "vfio-harness nightly --show lists the cells"
            raise UsageError(f"no cell {name!r} in the plan{nearest(name, known)}", hint=hint)
    return [cell for cell in cells if cell.id in names] if names else list(cells)


def longest_first(cells: Sequence[Cell]) -> list[Cell]:
    """Sort the cells so that the longest runs first. A cell of unknown duration counts as the longest."""
    unknown = [cell for cell in cells if cell.expected_s is None]
    known = [cell for cell in cells if cell.expected_s is not None]
    return unknown + sorted(known, key=lambda cell: cell.expected_s or 0.0, reverse=True)


def as_text(cells: Sequence[Cell], budget_s: float | None) -> str:
    """Format the cells as a table, in the order in which they run, with the expected time."""
    rows = [("cell", "cases", "expected", "owner")]
    rows += [(cell.id, str(len(cell.cases)), duration(cell.expected_s), cell.owner) for cell in cells]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    pads: tuple[Callable[[str, int], str], ...] = (str.ljust, str.rjust, str.rjust)
    lines = ["  ".join([*map(lambda pad, word, width: pad(word, width), pads, row, widths), row[3]]) for row in rows]
    known = [cell.expected_s for cell in cells if cell.expected_s is not None]
    total = f"{len(cells)} cells: {duration(sum(known))} one after the other" if known else f"{len(cells)} cells"
    if len(known) < len(cells):
        total += f"; {len(cells) - len(known)} have not run yet"
    if budget_s is not None:
        total += f"; budget: {duration(budget_s)}"
    return "\n".join([*(line.rstrip() for line in lines), "", total])


def duration(seconds: float | None) -> str:
    """Format seconds, e.g. ``2:05`` or ``1:02:05``; ``-`` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def as_matrix(cells: Sequence[Cell]) -> str:
    """Format the cells as a matrix of GitHub Actions: one job for each, with the arguments of ``vfio-harness run``.

    Raises UsageError for more cells than a matrix may have.
    """
    if len(cells) > MOST_JOBS:
        raise UsageError(
            f"the plan has {len(cells)} cells, and a matrix at most {MOST_JOBS} jobs", hint="choose with --cell"
        )
    jobs = [{"cell": cell.id, "args": shlex.join(options_of(cell).arguments())} for cell in cells]
    return json.dumps({"include": jobs})

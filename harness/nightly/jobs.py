# SPDX-License-Identifier: GPL-2.0-only
"""Which run a cell needs next. It follows from the records alone, so a night that was killed goes on where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.nightly.cells import NightVerdicts
from harness.nightly.outcomes import deciding, load_run, recorded_runs
from harness.nightly.record import Cell, CellResult, CellRun, Why
from harness.verdict import KERNEL_AT_FAULT, RunRecord, Verdict, exit_code

MOST_LOST = 3
"""A run whose worker is lost is made again elsewhere, at most twice."""
REPETITIONS = 10
"""How often a case that is bad now and was good in the last night is run again; half of them with the same seed."""
MOST_REPEATED = 10
"""The most cases of a cell that are repeated. More new failures have one cause, and their rates would say nothing."""

IsGood = Callable[[str, str], bool]
"""Whether a case was good in the last night that judged it: the id of its cell, and its own."""


@dataclass(frozen=True)
class Job:
    """A run that a cell needs."""

    cell: Cell
    why: Why
    cases: tuple[str, ...] = ()
    """The ids of its cases; empty: those of the cell."""
    seed: int | None = None
    """The random seed; None: a new one."""

    @property
    def urgency(self) -> int:
        """0 for what the plan asks for; repetitions come last."""
        return list(Why).index(self.why)


def next_job(directory: Path, cell: Cell, result: CellResult, is_good: IsGood) -> Job | None:
    """Return the run that a cell needs next; None if it is done. None of its runs may be running.

    ``directory``: of the night.
    """
    planned = [run for run in result.runs if run.why is Why.PLAN]
    whole = next((run for run in reversed(planned) if run.completed), None)
    if whole is None:
        return None if _lost(planned) >= MOST_LOST else Job(cell, Why.PLAN)
    record = load_run(directory / whole.directory)
    return _again(cell, result, whole, record) or _repetition(directory, cell, result, record, is_good)


def _again(cell: Cell, result: CellResult, whole: CellRun, record: RunRecord | None) -> Job | None:
    """Return the second run of the cases that are ERROR, or of the whole cell if an error ended it."""
    errors = tuple(case.id for case in record.cases if case.verdict is Verdict.ERROR) if record else ()
    if not errors and not (record is None and whole.exit_code == 3):
        return None
    again = [run for run in result.runs if run.why is Why.AGAIN]
    if any(run.completed for run in again) or _lost(again) >= MOST_LOST:
        return None
    return Job(cell, Why.AGAIN, errors)


def _repetition(
    directory: Path, cell: Cell, result: CellResult, record: RunRecord | None, is_good: IsGood
) -> Job | None:
    """Return the next repetition of the cases that are bad now and were good."""
    if record is None:
        return None
    decided = deciding(recorded_runs(result, directory))
    bad = [case for case in decided.values() if case.verdict in KERNEL_AT_FAULT and is_good(cell.id, case.id)]
    made = sum(run.completed or run.lost for run in result.runs if run.why is Why.RATE)
    if not bad or made >= REPETITIONS:
        return None
    seed = next((case.seed for case in bad if case.seed is not None), None)
    return Job(
        cell,
        Why.RATE,
        tuple(case.id for case in bad[:MOST_REPEATED]),
        seed if made < REPETITIONS // 2 else None,
    )


def _lost(runs: Sequence[CellRun]) -> int:
    return sum(run.lost for run in runs)


def night_exit_code(verdicts: NightVerdicts) -> int:
    """Return 1 if a kernel is at fault in something that is not known, 3 for ERROR or MISS only, else 0.

    A kernel that does not build, or lacks the export, is at fault as it is for ``vfio-harness run``.
    """
    worst = 0
    for cell in verdicts.cells:
        code = exit_code([case.verdict for case in cell.decided.values()])
        last = next((ran.run for ran in reversed(cell.runs) if ran.run.why is not Why.RATE), None)
        if code == 1 or (code == 0 and last and last.exit_code == 1):
            return 1
        if code or any(case not in cell.decided for case in cell.cell.cases):
            worst = 3
    return worst

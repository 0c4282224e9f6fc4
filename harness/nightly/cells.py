# SPDX-License-Identifier: GPL-2.0-only
"""The verdicts of a night: reads its record and the records of its runs, and joins those of each cell."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.errors import UsageError
from harness.nightly.outcomes import Key, Outcome, deciding, load_night, outcomes_of
from harness.nightly.record import Cell, CellRun, Night
from harness.report.record import REPORT, load
from harness.report.renamed import renamed_cases
from harness.report.text import one_line, summarise
from harness.verdict import CaseRecord, RunRecord


@dataclass(frozen=True)
class Ran:
    """One run of a cell."""

    run: CellRun
    record: RunRecord | None
    why_no_record: str = ""
    """One sentence; empty with a record."""

    def case(self, name: str) -> CaseRecord | None:
        """Return the record of a case; None if this run has not judged it."""
        return next((case for case in self.record.cases if case.id == name), None) if self.record else None


@dataclass(frozen=True)
class Judged:
    """A case as one run has judged it."""

    run: CellRun
    record: RunRecord
    case: CaseRecord


@dataclass(frozen=True)
class CellVerdicts:
    """A cell with its runs, in order."""

    cell: Cell
    runs: tuple[Ran, ...]

    def judgements(self, name: str) -> list[Judged]:
        """Return every judgement of a case, in the order of the runs."""
        return [
            Judged(ran.run, ran.record, case)
            for ran in self.runs
            if ran.record and (case := ran.case(name)) is not None
        ]

    def verdict(self, name: str) -> Judged | None:
        """Return the judgement that counts; None if no run has judged the case."""
        case = self.decided.get(name)
        return next((judged for judged in self.judgements(name) if judged.case is case), None)

    @property
    def recorded(self) -> list[tuple[CellRun, RunRecord]]:
        """The runs that have a record, with it."""
        return [(ran.run, ran.record) for ran in self.runs if ran.record]

    @cached_property
    def decided(self) -> dict[str, CaseRecord]:
        """The record that decides each case that was judged."""
        return deciding(self.recorded)

    def showing(self, name: str, verdict: str) -> Judged | None:
        """Return the judgement with this verdict, to quote it; any other if there is none."""
        found = self.judgements(name)
        return next((judged for judged in found if judged.case.verdict == verdict), next(iter(found), None))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The cases of the plan, then those that only a run knows."""
        judged = (case.id for ran in self.runs if ran.record for case in ran.record.cases)
        return tuple(dict.fromkeys([*self.cell.cases, *judged]))

    @cached_property
    def missing(self) -> dict[str, str]:
        """The cases that no run has judged, and why in one sentence."""
        return {name: self.why_missing() for name in self.names if self.verdict(name) is None}

    def why_missing(self) -> str:
        """Say why a case of this cell has no verdict."""
        if not self.runs:
            return "the cell has not run"
        last = self.runs[-1]
        return last.why_no_record or "the run has ended without judging it"

    def merged(self) -> RunRecord | None:
        """Return the record of the first run, with the verdict that counts of each case; None without a record."""
        first = next((ran.record for ran in self.runs if ran.record), None)
        if first is None:
            return None
        cases = [judged.case for name in self.names if (judged := self.verdict(name))]
        return first.model_copy(update={"cases": cases, "summary": summarise(cases)})


@dataclass(frozen=True)
class NightVerdicts:
    """A night and the records of its runs: all that its reports are made of. It is read once, and passed on."""

    directory: Path
    """The directory of the night."""
    night: Night
    cells: tuple[CellVerdicts, ...]

    @classmethod
    def read(cls, directory: Path) -> "NightVerdicts":
        """Read a night. A run whose record is missing or damaged has none, and says why.

        Raises UsageError if ``nightly.json`` is missing or damaged.
        """
        night = load_night(directory)
        results = {result.cell: result.runs for result in night.results}
        cells = (CellVerdicts(cell, tuple(_read(directory, results.get(cell.id, [])))) for cell in night.cells)
        return cls(directory, night, tuple(cells))

    @cached_property
    def outcomes(self) -> dict[Key, Outcome]:
        """The outcome of each case that a run has judged."""
        name = renamed_cases().current_id
        return {
            (cell.cell.id, name(case)): outcome
            for cell in self.cells
            for case, outcome in outcomes_of(cell.recorded).items()
        }

    @property
    def records(self) -> dict[str, RunRecord]:
        """The records of the runs, by their directories."""
        return {run.directory: record for cell in self.cells for run, record in cell.recorded}

    def cell(self, name: str) -> CellVerdicts | None:
        """Return the cell with this id."""
        return next((found for found in self.cells if found.cell.id == name), None)


def _read(directory: Path, runs: list[CellRun]) -> Iterator[Ran]:
    for run in runs:
        try:
            yield Ran(run, load(directory / run.directory / REPORT))
        except UsageError as error:
            ended = "the night was killed while it ran" if run.exit_code is None else f"the run has no record: {error}"
            yield Ran(run, None, one_line(run.error) or one_line(ended.replace(f"{directory}/", "")))

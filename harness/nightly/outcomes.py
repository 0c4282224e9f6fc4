# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of each case of a night. A cell may have several runs; this module says which of them counts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.errors import UsageError
from harness.nightly.fingerprint import fingerprint
from harness.nightly.record import FILE, SCHEMA, CellResult, CellRun, Night, Why
from harness.report import load
from harness.report.rate import UNCOUNTED, short_text
from harness.report.record import read_record
from harness.verdict import CaseRecord, RunRecord, Verdict

T = TypeVar("T")

Key = tuple[str, str]
"""The id of a cell, and the id that a case has today."""


@dataclass(frozen=True)
class Outcome:
    """What a night says about a case in a cell."""

    verdict: str
    """Of its newest run, or MISS."""
    reason: str = ""
    """The reason of the verdict."""
    known_issue: str | None = None
    """The entry of known-issues.yaml that explains it."""
    fingerprint: str = ""
    """Of its splat."""
    rate: str = ""
    """How often it failed when it was repeated, e.g. ``3 of 10``."""


def load_night(directory: Path) -> Night:
    """Read the record of a night. Raises UsageError, with the reason in one line, if it cannot be read."""
    return read_record(directory / FILE, Night, SCHEMA, hint="name the directory of a night: results/nightly/latest")


def load_run(directory: Path) -> RunRecord | None:
    """Read the record of a run. None if there is none that can be read: its cases count as not judged."""
    try:
        return load(directory)
    except UsageError:
        return None


def recorded_runs(result: CellResult, directory: Path) -> list[tuple[CellRun, RunRecord]]:
    """Return the runs of a cell that have a record, with it, in order. ``directory``: of the night."""
    return [(run, record) for run in result.runs if (record := load_run(directory / run.directory))]


def order_of(night: str) -> tuple[int, ...]:
    """Return the sort key of a night's name: ``2026-11-29-10`` comes after ``2026-11-29-2``."""
    return tuple(int(number) for number in re.findall(r"\d+", night))


def night_directories(nightly: Path) -> list[Path]:
    """Return the directories of the nights in ``results/nightly``, newest first."""
    found = (path for path in nightly.glob(f"*/{FILE}") if not path.parent.is_symlink())
    return sorted((path.parent for path in found), key=lambda path: order_of(path.name), reverse=True)


def earlier_nights(directory: Path) -> list[Path]:
    """Return the directories of the nights before the night in ``directory``, newest first."""
    return [path for path in night_directories(directory.parent) if order_of(path.name) < order_of(directory.name)]


def outcomes_of(runs: list[tuple[CellRun, RunRecord]]) -> dict[str, Outcome]:
    """Return the outcome of each case that one of these runs of a cell has judged."""
    repeated = _rates(runs)
    return {case.id: outcome_of(case, repeated.get(case.id, "")) for case in deciding(runs).values()}


def outcome_of(case: CaseRecord, rate: str = "") -> Outcome:
    """Return the outcome that a record of a case stands for."""
    return Outcome(str(case.verdict), case.reason, case.known_issue, fingerprint(case), rate)


def why_unjudged(runs: Sequence[CellRun]) -> str:
    """Say why the runs of a cell have not judged a case."""
    if not runs:
        return "the cell has not run"
    last = runs[-1]
    if last.error:
        return last.error
    ended = "has not judged it" if last.exit_code is not None else "did not end"
    return f"the run of {last.directory} {ended}"


def deciding(runs: list[tuple[CellRun, RunRecord]]) -> dict[str, CaseRecord]:
    """Return the record that decides each case: that of the newest run that the plan asks for.

    A run of why AGAIN replaces an ERROR only, so no repetition turns a failure into a pass.
    """
    found: dict[str, CaseRecord] = {}
    for run, record in runs:
        for case in record.cases:
            earlier = found.get(case.id)
            replaces = earlier is None or earlier.verdict is Verdict.ERROR
            if run.why is Why.PLAN or (run.why is Why.AGAIN and replaces):
                found[case.id] = case
    return found


def _rates(runs: list[tuple[CellRun, RunRecord]]) -> dict[str, str]:
    repetitions = (record for run, record in runs if run.why is Why.RATE)
    return rates((case.id, case.verdict) for record in repetitions for case in record.cases)


def rates(repetitions: Iterable[tuple[T, str]]) -> dict[T, str]:
    """Return how often each case failed when it was repeated, e.g. ``3 of 10``; without those that no run judged.

    ``repetitions``: a key of the case, and the verdict of a run.
    """
    found: dict[T, Counter[str]] = defaultdict(Counter)
    for case, verdict in repetitions:
        found[case][verdict] += 1
    return {case: short_text(verdicts) for case, verdicts in found.items() if verdicts.keys() - UNCOUNTED}

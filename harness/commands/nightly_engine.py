# SPDX-License-Identifier: GPL-2.0-only
"""The engine of a night: starts the runs that its cells need, and records how each ends.

What runs them is a ``Runner``: child processes on this host, or workers of Dask. A cell has at most one run at a time.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.nightly.jobs import IsGood, Job, next_job
from harness.nightly.record import COMPLETED
from harness.nightly.running import RunningNight
from harness.progress import Emit, Note, Phase
from harness.report.text import one_line, tally
from harness.verdict import RunRecord

DEADLINE = 130
"""The exit code of a run that the deadline has ended, as after Ctrl-C."""
OVER = "the night's deadline ended the run"


@dataclass(frozen=True)
class Ticket:
    """A job that runs."""

    job: Job
    number: int
    """The number of the run in its cell, from 0."""
    directory: Path
    """Of the run."""
    started: float = field(default_factory=time.monotonic)
    """When, on the monotonic clock."""


@dataclass(frozen=True)
class Outcome:
    """How a run has ended."""

    exit_code: int | None
    """Of its command; None if its process or its worker was lost, as ``error`` says."""
    error: str = ""
    """Why it has no record, or not a whole one, in one sentence."""
    record: RunRecord | None = None
    """Its record."""


class Runner(Protocol):
    """What runs the jobs."""

    def host_for(self, job: Job, running: Sequence[Ticket]) -> str | None:
        """Return the host that can run the job now, next to those that run; empty for this host, None for none."""

    def wait_for_host(self, job: Job) -> bool:
        """Wait for a host that can run the job, while nothing runs. Return False if none has come."""

    def start(self, ticket: Ticket, host: str) -> None:
        """Start a run."""

    def wait(self) -> list[tuple[Ticket, Outcome]]:
        """Wait for about a second until a run ends. Return those that have ended."""

    def end(self, tickets: Sequence[Ticket]) -> list[tuple[Ticket, Outcome]]:
        """End these runs as Ctrl-C does. Return how they ended."""


class Engine:
    """Runs a night."""

    def __init__(
        self,
        running: RunningNight,
        runner: Runner,
        is_good: IsGood,
        emit: Emit,
        *,
        only: Sequence[str] = (),
        deadline_s: float | None = None,
        keep_going: bool = True,
    ) -> None:
        """``only``: the ids of the cells that may run; empty: all. ``deadline_s``: from now."""
        self._night = running
        self._runner = runner
        self._is_good = is_good
        self._emit = emit
        self._only = set(only)
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._keep_going = keep_going
        self._stopped = False
        self._tickets: list[Ticket] = []
        self._waiting: dict[str, Job | None] = {}

    def run(self, step: Phase) -> None:
        """Run what the cells need, until they need nothing or the deadline has passed."""
        cells = [cell for cell in self._night.night.cells if not self._only or cell.id in self._only]
        self._waiting = {cell.id: self._needed(cell.id) for cell in cells}
        while True:
            blocked = self._start()
            if not self._tickets:
                if blocked and self._runner.wait_for_host(blocked):
                    continue
                return
            for ticket, outcome in self._runner.wait():
                self._ended(ticket, outcome)
            if self._left() <= 0:
                for ticket, outcome in self._runner.end(self._tickets):
                    code = outcome.exit_code if outcome.exit_code in COMPLETED else DEADLINE
                    self._ended(ticket, Outcome(code, outcome.error if code != DEADLINE else OVER, outcome.record))
                return
            step.progress(self._progress())

    def _left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _needed(self, cell: str) -> Job | None:
        found = next(each for each in self._night.night.cells if each.id == cell)
        return next_job(self._night.directory, found, self._night.result(cell), self._is_good)

    def _start(self) -> Job | None:
        """Start what can run now: what the plan asks for first, in its order. A job that cannot end in time waits.

        Returns a job that has no host.
        """
        blocked = None
        busy = {ticket.job.cell.id for ticket in self._tickets}
        jobs = [job for cell, job in self._waiting.items() if job and cell not in busy]
        for job in sorted(jobs, key=lambda job: job.urgency):
            fits = self._left() > (job.cell.expected_s or 0.0 if not job.cases else 0.0)
            if self._stopped or not fits:
                continue
            if (host := self._runner.host_for(job, self._tickets)) is None:
                blocked = job
                continue
            number, directory = self._night.begin(job.cell.id, job.why, host)
            ticket = Ticket(job, number, directory)
            self._tickets.append(ticket)
            self._runner.start(ticket, host)
        return blocked

    def _ended(self, ticket: Ticket, outcome: Outcome) -> None:
        self._tickets.remove(ticket)
        cell = ticket.job.cell.id
        seconds = time.monotonic() - ticket.started
        self._night.end(
            cell, ticket.number, seconds=seconds, exit_code=outcome.exit_code, error=one_line(outcome.error)
        )
        self._waiting[cell] = self._needed(cell)
        self._stopped |= not self._keep_going and outcome.exit_code == 1
        said = tally(outcome.record.summary) if outcome.record else ""
        self._emit(
            Note(f"{cell} ({ticket.job.why}): {'; '.join(filter(None, [said, outcome.error]))} in {seconds:.0f} s")
        )

    def _progress(self) -> str:
        done = sum(job is None for job in self._waiting.values())
        names = ", ".join(ticket.job.cell.id for ticket in self._tickets)
        return f"{done} of {len(self._waiting)} cells done; running: {names}"

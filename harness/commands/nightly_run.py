# SPDX-License-Identifier: GPL-2.0-only
"""A night from its record to its reports: makes or continues it, runs it, and writes what has changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from harness.commands.nightly_bisect import with_commits
from harness.commands.nightly_engine import Engine, Runner
from harness.config.releases import version
from harness.errors import HarnessError, UsageError
from harness.kernel.source.commit import pinned as pinned_kernel
from harness.nightly.cells import NightVerdicts
from harness.nightly.changes import changes_of
from harness.nightly.fill import stamp_of
from harness.nightly.history import History, open_history
from harness.nightly.jobs import IsGood, night_exit_code
from harness.nightly.kcidb import write_kcidb
from harness.nightly.mail import write_mail
from harness.nightly.merged import write_merged
from harness.nightly.nights import LATEST, link_latest, make_directory
from harness.nightly.outcomes import Key, earlier_nights, load_night
from harness.nightly.page import write_page
from harness.nightly.past import PastNights, recorded_nights
from harness.nightly.record import CaseChange, Cell, CellResult, Night
from harness.nightly.running import RunningNight, now
from harness.nightly.slower import slower_cases
from harness.progress import Emit, Note, phase
from harness.report.renamed import renamed_cases
from harness.run.known_issues import overdue
from harness.verdict import KERNEL_AT_FAULT

LOCK = ".lock"

T = TypeVar("T")
Writer = Callable[[NightVerdicts], object]
"""Writes a report of a night into its directory."""


@dataclass(frozen=True)
class Limits:
    """What limits a night."""

    deadline_s: float | None = None
    """How long it may take from now, in seconds; None: as its plan or its record says."""
    only: Sequence[str] = ()
    """The ids of the cells that may run; empty: all."""
    keep_going: bool = True
    """Whether it goes on after a cell in which the kernel is at fault."""


def new_night(plan: Path, cells: Sequence[Cell], deadline_s: float | None, only: Sequence[str] = ()) -> Night:
    """Return the record of a new night, without its name.

    ``only``: the cells that the user chose. They are in the plan's name, because a night is compared with those of the
    same plan.
    """
    return Night(
        night="",
        started=now(),
        deadline_s=deadline_s,
        plan=" ".join([str(plan.absolute()), *(f"--cell={name}" for name in only)]),
        cells=list(cells),
        results=[CellResult(cell=cell.id) for cell in cells],
    )


def pin(cells: Sequence[Cell], emit: Emit) -> list[Cell]:
    """Return the cells with each ref of a git tree pinned to its commit, so that they test the same one.

    A ref that cannot be resolved stays as it is: the runs of its cells will say why.
    """
    pinned: dict[str | None, str | None] = {}
    for kernel in dict.fromkeys(cell.kernel for cell in cells):
        try:
            pinned[kernel] = pinned_kernel(kernel, emit)
        except HarnessError as error:
            emit(Note(f"{kernel}: {error}"))
            pinned[kernel] = kernel
    return [cell.model_copy(update={"kernel": pinned[cell.kernel]}) for cell in cells]


@contextmanager
def begun(nights: Path, night: Night) -> Iterator[RunningNight]:
    """Write the record of a new night, before anything runs, and point ``latest`` to it."""
    directory = make_directory(nights)
    with _locked(directory):
        running = RunningNight(directory, night.model_copy(update={"night": directory.name}))
        link_latest(directory)
        yield running


@contextmanager
def continued(nights: Path) -> Iterator[RunningNight]:
    """Read the newest night, to continue it.

    Raises UsageError if there is none, or if another process runs it."""
    latest = nights / LATEST
    if not latest.exists():
        raise UsageError(f"{latest}: there is no night to continue", hint="leave --resume out")
    directory = latest.resolve()
    with _locked(directory):
        yield RunningNight(directory, load_night(directory))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the night against other processes. The host's kernel releases it if this one is killed.

    Raises UsageError if another process holds it."""
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{directory}: another process runs this night", hint="wait for its end, or end it") from None
    try:
        yield
    finally:
        lock.release()


def run_night(running: RunningNight, runner: Runner, limits: Limits, emit: Emit) -> int:
    """Run a night to its end, and write its reports. Return its exit code."""
    directory = running.directory
    is_good = _good_before(running, emit)
    left = limits.deadline_s
    if left is not None:
        running.reopen(running.seconds() + left)
    elif running.night.deadline_s is not None:
        left = running.night.deadline_s - running.seconds()
    engine = Engine(running, runner, is_good, emit, only=limits.only, deadline_s=left, keep_going=limits.keep_going)
    try:
        with phase(emit, "night", directory.name) as step:
            engine.run(step)
            step.result = directory.name
    except KeyboardInterrupt:
        emit(Note(f"{directory} is not finished: vfio-harness nightly --resume continues it"))
        raise
    limit = running.night.deadline_s
    return night_exit_code(finish(running, emit, None if limit is None else limit - running.seconds()))


def _good_before(running: RunningNight, emit: Emit) -> IsGood:
    """Return which cases were good in the last night that judged them."""
    today = renamed_cases().current_id
    keys = [(cell.id, today(case)) for cell in running.night.cells for case in cell.cases]
    good = _ask(running, emit, lambda past, history: past.good(keys))
    return lambda cell, case: (cell, today(case)) in good


def _ask(running: RunningNight, emit: Emit, question: Callable[[PastNights, History | None], T]) -> T:
    """Ask the earlier nights of the plan: the history or, if that cannot be used, their records."""
    directory, night = running.directory, running.night
    try:
        with open_history(directory.parent, emit, besides=directory.name) as history:
            return question(PastNights(history.nights_before(night)), history)
    except HarnessError as error:
        emit(Note(f"history: {error}"))
    return question(PastNights(recorded_nights(night.plan, earlier_nights(directory))), None)


@dataclass(frozen=True)
class _Compared:
    """What the earlier nights of its plan say about a night."""

    last_night: str
    """The name of the newest; empty without one."""
    changes: list[CaseChange]
    slower: list[str] = field(default_factory=list)
    """A line for each case that is slower than before."""
    blamed: dict[Key, str] = field(default_factory=dict)
    """The first bad commits that they have found, of the cases that are still bad."""


def finish(running: RunningNight, emit: Emit, left_s: float | None = None) -> NightVerdicts:
    """Record the end of a night and what has changed, and write its reports.

    New failures are bisected for at most ``left_s`` seconds; None is no limit. A report that cannot be written is
    named, and does not stop the others. Returns what the reports are made of.
    """
    verdicts = NightVerdicts.read(running.directory)

    def compare(past: PastNights, history: History | None) -> _Compared:
        changes = changes_of(verdicts, past)
        last_night = next((name for name, _ in past.nights(1)), "")
        if history is None:
            return _Compared(last_night, changes)
        bad = [key for key, outcome in verdicts.outcomes.items() if outcome.verdict in KERNEL_AT_FAULT]
        return _Compared(
            last_night,
            with_commits(changes, verdicts, history, emit, left_s),
            slower_cases(verdicts, history.durations),
            history.still_blamed(verdicts.night, bad),
        )

    compared = _ask(running, emit, compare)
    running.finish(compared.changes)
    verdicts = replace(verdicts, night=running.night)

    def write_morning_page(verdicts: NightVerdicts) -> None:
        write_page(
            verdicts,
            last_night=compared.last_night,
            blamed=compared.blamed,
            overdue=_overdue(verdicts),
            slower=compared.slower,
        )

    def write_history(verdicts: NightVerdicts) -> None:
        name, nightly = verdicts.directory.name, verdicts.directory.parent
        with open_history(nightly, emit, besides=name) as history:
            history.add(verdicts.night, verdicts.records, stamp_of(verdicts.directory))

    writers: Sequence[Writer] = (write_mail, write_morning_page, write_merged, write_kcidb, write_history)
    for write in writers:
        try:
            write(verdicts)
        except HarnessError as error:
            emit(Note(f"{write.__name__}: {error}"))
    return verdicts


def _overdue(verdicts: NightVerdicts) -> list[str]:
    """Return a line for each known issue that is due for a review today, or for the newest kernel of the night."""
    releases = [record.kernel.release for record in verdicts.records.values()]
    issues = overdue(datetime.now(UTC).date(), max(releases, key=version, default=None))
    return [f"{issue.id}: {issue.title}; review by {issue.review_by}" for issue in issues]

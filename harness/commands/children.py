# SPDX-License-Identifier: GPL-2.0-only
"""Runs several ``vfio-harness`` processes in parallel, each with its own results directory.

PR_SET_PDEATHSIG sends each child SIGTERM if the harness dies; a child handles it like Ctrl-C. Each child has its own
session, so that a terminal's Ctrl-C does not reach it a second time.
"""

import json
import logging
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import HarnessError, KernelError, UsageError
from harness.host.files import write_atomically
from harness.host.process import tied
from harness.progress import Phase
from harness.report import record
from harness.report.text import one_line
from harness.run.options import Options
from harness.verdict import RunRecord
from harness.vm.process import tail

log = logging.getLogger(__name__)

TICK_S = 1.0
LEAVE_S = 2.0
"""Grace period between SIGTERM and SIGKILL, in seconds."""
RUN_S = 3600.0
"""The longest run, in seconds: a debug kernel built from scratch, and every case on it."""
MAX_LINE = 60
TAIL = 8000
"""Bytes of a child's output that are searched for its last line."""
LOG = "output.txt"
ERROR = "error.json"
PROGRAM = (sys.executable, "-P", "-m", "harness")


@dataclass(frozen=True)
class Task:
    """One run: its options, and which cases."""

    name: str
    options: Options
    directory: Path
    """Receives its results and its output."""
    cases: Sequence[str] = ()
    """Files, directories or node ids; empty: all."""
    jobs: int | None = 1
    """The number of its machines. Children share the processors, so it is one; None: those of ``options``."""
    subcommand: str = "run"
    """The subcommand of ``vfio-harness``."""

    def __str__(self) -> str:
        """Return its name and the last line of its output."""
        last = tail(self.directory / LOG, TAIL).strip().rpartition("\n")[2]
        return f"{self.name}: {one_line(last, MAX_LINE)}"

    def command(self) -> list[str]:
        """Return its command line."""
        own = [f"--jobs={self.jobs}"] if self.jobs else []
        own.append(f"--error-file={self.directory / ERROR}")
        return [*PROGRAM, self.subcommand, *own, *self.options.arguments(self.subcommand), *self.cases]


@dataclass(frozen=True)
class Ended:
    """The end of a run."""

    code: int
    """The exit code."""
    seconds: float
    record: RunRecord | None
    """None if the run ended before its first case."""
    error: HarnessError | None = None
    """What ended a run without a record."""

    def require(self) -> RunRecord:
        """Return the record. Raises KernelError, UsageError or HarnessError if the run ended without one."""
        if self.record:
            return self.record
        raise self.error or HarnessError(f"a run ended with exit code {self.code}")


@contextmanager
def error_written_to(path: Path | None) -> Iterator[None]:
    """Write a HarnessError that ends the block to ``path``, as JSON, and re-raise it."""
    try:
        yield
    except HarnessError as error:
        if path:
            data = {"exit_code": error.exit_code, "message": str(error), "hint": error.hint}
            with suppress(OSError):  # a full disk must not replace the error
                write_atomically(path, json.dumps(data) + "\n")
        raise


def read_error(path: Path) -> HarnessError | None:
    """Read what ``error_written_to`` has written; None if there is none."""
    if not path.exists():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    kinds = {KernelError.exit_code: KernelError, UsageError.exit_code: UsageError}
    return kinds.get(data["exit_code"], HarnessError)(data["message"], hint=data["hint"])


@dataclass
class _Child:
    """A running task."""

    task: Task
    process: subprocess.Popen[bytes]
    pidfd: int
    """Readable when the process has ended."""
    began: float = field(default_factory=time.monotonic)

    def ended(self) -> Ended:
        """Reap the process, and read its record or its error."""
        code, seconds = self.process.wait(), time.monotonic() - self.began
        os.close(self.pidfd)
        for found in (self.task.directory / "latest", self.task.directory / record.REPORT):
            if found.exists():
                return Ended(code, seconds, record.load(found))
        unknown = HarnessError(f"{self.task.name} ended with exit code {code}: {self.task.directory / LOG}")
        return Ended(code, seconds, None, read_error(self.task.directory / ERROR) or unknown)


class Children:
    """The running tasks. As a context manager, it ends those that still run, Ctrl-C included."""

    def __init__(self) -> None:
        self._running: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._running)
        for child in self._running:
            os.close(child.pidfd)
        self._running.clear()

    @property
    def tasks(self) -> list[Task]:
        """The tasks that run, in the order in which they were started."""
        return [child.task for child in self._running]

    def start(self, task: Task) -> None:
        """Start a task."""
        self._running.append(_start(task))

    def wait(self) -> list[tuple[Task, Ended]]:
        """Wait until a task ends, at most about a second. Return those that have ended."""
        with selectors.DefaultSelector() as selector:
            for child in self._running:
                selector.register(child.pidfd, selectors.EVENT_READ, child)
            done: list[_Child] = [key.data for key, _ in selector.select(TICK_S)]
        return [self._reap(child) for child in done]

    def overdue(self, seconds: float) -> list[Task]:
        """Return the tasks that have run for longer."""
        return [child.task for child in self._running if time.monotonic() - child.began > seconds]

    def end(self, tasks: Sequence[Task]) -> list[tuple[Task, Ended]]:
        """End these tasks as Ctrl-C does: a run writes the record of what it has judged."""
        children = [child for child in self._running if child.task in tasks]
        _end(children)
        return [self._reap(child) for child in children]

    def _reap(self, child: _Child) -> tuple[Task, Ended]:
        self._running.remove(child)
        return child.task, child.ended()


def shown_in(step: Phase, before: str = "") -> Callable[[Sequence[Task]], None]:
    """Return an ``on_tick`` that shows the last line of each running task. ``before``: a text before them."""
    return lambda running: step.progress(before + "; ".join(map(str, running)))


def run_all(
    tasks: Iterable[Task],
    jobs: int,
    on_end: Callable[[Task, Ended], None],
    on_tick: Callable[[Sequence[Task]], None] = lambda running: None,
) -> None:
    """Run the tasks in their order, at most ``jobs`` in parallel.

    ``on_end`` is called with each task as it ends, ``on_tick`` about once a second with the running ones. Any
    exception, Ctrl-C included, ends all children first.

    Raises HarnessError for a task that takes longer than ``RUN_S``.
    """
    waiting = iter(tasks)
    with Children() as running:
        while True:
            while len(running.tasks) < jobs and (task := next(waiting, None)):
                running.start(task)
            if not running.tasks:
                return
            for task, ended in running.wait():
                on_end(task, ended)
            on_tick(running.tasks)
            for task in running.overdue(RUN_S):
                raise HarnessError(f"{task.name} took longer than {RUN_S:.0f} s: {task.directory}")


def _start(task: Task) -> _Child:
    command = tied(task.command(), signal.SIGTERM)
    log.debug("start %s", shlex.join(command))
    task.directory.mkdir(parents=True, exist_ok=True)
    with (task.directory / LOG).open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "VFIO_HARNESS_RESULTS": str(task.directory)},
            start_new_session=True,
        )
    return _Child(task, process, os.pidfd_open(process.pid))


def _end(children: Sequence[_Child]) -> None:
    """End all children: SIGTERM, and SIGKILL after ``LEAVE_S``."""
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + LEAVE_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, deadline - time.monotonic()))
        child.process.kill()  # its own children die with it
        child.process.wait()

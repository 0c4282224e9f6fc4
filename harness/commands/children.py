# SPDX-License-Identifier: GPL-2.0-only
"""Runs several ``vfio-harness run`` processes in parallel, each with its own results directory.

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

from harness.errors import HarnessError, KernelError, UsageError
from harness.host.files import write_atomically
from harness.host.process import tied
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

    def __str__(self) -> str:
        """Return its name and the last line of its output."""
        last = tail(self.directory / LOG, TAIL).strip().rpartition("\n")[2]
        return f"{self.name}: {one_line(last, MAX_LINE)}"

    def command(self) -> list[str]:
        """Return its command line. Children share the processors, so each has one machine."""
        error_file = self.directory / ERROR
        return [*PROGRAM, "run", "--jobs=1", f"--error-file={error_file}", *self.options.arguments(), *self.cases]


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
        latest = self.task.directory / "latest"
        if latest.exists():
            return Ended(code, seconds, record.load(latest))
        unknown = HarnessError(f"{self.task.name} ended with exit code {code}: {self.task.directory / LOG}")
        return Ended(code, seconds, None, read_error(self.task.directory / ERROR) or unknown)


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
    running: list[_Child] = []
    try:
        with selectors.DefaultSelector() as selector:
            while True:
                while len(running) < jobs and (task := next(waiting, None)):
                    running.append(child := _start(task))
                    selector.register(child.pidfd, selectors.EVENT_READ, child)
                if not running:
                    return
                for key, _ in selector.select(TICK_S):
                    done: _Child = key.data
                    selector.unregister(done.pidfd)
                    on_end(done.task, done.ended())
                    running.remove(done)
                    os.close(done.pidfd)
                on_tick([child.task for child in running])
                for child in running:
                    if time.monotonic() - child.began > RUN_S:
                        raise HarnessError(f"{child.task.name} took longer than {RUN_S:.0f} s: {child.task.directory}")
    finally:
        _end(running)


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
        os.close(child.pidfd)

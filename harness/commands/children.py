# SPDX-License-Identifier: GPL-2.0-only
"""Runs beside each other: each a ``vfio-harness run`` in a process of its own, with results of its own.

They end with the harness, whatever ends it, and clean up after themselves: the kernel sends them SIGTERM, which to
them is Ctrl-C. A session of their own keeps the terminal's Ctrl-C from coming to them a second time.
"""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError, KernelError, MissingPrerequisite, UsageError
from harness.escape import printable
from harness.host.packages import find
from harness.report import record
from harness.report.text import one_line
from harness.verdict import RunRecord
from harness.vm.process import tail

TICK_S = 1.0
LEAVE_S = 2.0
"""A run that is asked to end has this long to put its things away, then it is killed."""
RUN_S = 3600.0
"""The longest that a run may take: a debug kernel built from nothing, and every case on it."""
MAX_ERROR = 8000
MAX_SAID = 60
LOG = "output.txt"
RUN = (sys.executable, "-P", "-m", "harness", "run", "--jobs=1")
"""Each has one machine: they are the ones that share the processors."""


@dataclass(frozen=True)
class Task:
    """``arguments``: what ``vfio-harness run`` is given. ``directory``: where its results and its output go."""

    name: str
    arguments: Sequence[str]
    directory: Path

    def __str__(self) -> str:
        """Its name, and what it has said last."""
        said = tail(self.directory / LOG, MAX_ERROR).strip().rpartition("\n")[2]
        return f"{self.name}: {one_line(said, MAX_SAID)}"


@dataclass(frozen=True)
class Ended:
    """What became of a run. ``record`` is None if it ended before its first case; ``error`` then says why."""

    code: int
    seconds: float
    record: RunRecord | None
    error: str = ""

    def require(self) -> RunRecord:
        """The record. Raises what ended the run without one: KernelError, UsageError or HarnessError."""
        if self.record:
            return self.record
        kinds = {KernelError.exit_code: KernelError, UsageError.exit_code: UsageError}
        raise kinds.get(self.code, HarnessError)(self.error)


@dataclass
class _Child:
    task: Task
    process: subprocess.Popen[bytes]
    pidfd: int
    began: float = field(default_factory=time.monotonic)

    def ended(self) -> Ended:
        code, seconds = self.process.wait(), time.monotonic() - self.began
        latest = self.task.directory / "latest"
        if latest.exists():
            return Ended(code, seconds, record.load(latest))
        return Ended(code, seconds, None, error_in(self.task.directory / LOG) or f"it ended with exit code {code}")


def run_all(
    tasks: Iterable[Task],
    jobs: int,
    on_end: Callable[[Task, Ended], None],
    on_tick: Callable[[Sequence[Task]], None] = lambda running: None,
) -> None:
    """Run the tasks in their order, at most ``jobs`` at a time. ``on_end`` gets each as it ends, ``on_tick`` about
    once a second those under way. Whatever is raised here or there, Ctrl-C included, ends all of them first.

    Raises HarnessError for one that takes longer than ``RUN_S``."""
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


def tied(command: Sequence[str]) -> list[str]:
    """The command, which the kernel sends SIGTERM when whoever starts it is gone."""
    setpriv = find("setpriv")
    if not setpriv:
        raise MissingPrerequisite("no setpriv, by which runs die with the harness", hint="apt-get install util-linux")
    return [setpriv, "--pdeathsig", "TERM", "--", *command]


def _start(task: Task) -> _Child:
    command = tied([*RUN, *task.arguments])
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
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + LEAVE_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, deadline - time.monotonic()))
        child.process.kill()  # what it has started dies with it
        child.process.wait()
        os.close(child.pidfd)


def error_in(log: Path) -> str:
    """What ended a run before its first case, as its terminal has shown it."""
    text = log.read_text(errors="replace")
    _, found, error = text.rpartition("\nerror:")
    return printable((error if found else text.removeprefix("error:")).strip(), MAX_ERROR)

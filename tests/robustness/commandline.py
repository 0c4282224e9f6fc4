# SPDX-License-Identifier: GPL-2.0-only
"""Run ``vfio-harness`` as a user does, and check its exit code, its output, and that it leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("vfio-harness")
CASES = Path(__file__).parent / "cases"

RUN_S = 300.0
"""Deadline of one command, on a busy host."""
GONE_S = 3.0
"""Every process must be gone this soon after a signal."""
MOMENT_S = 120.0
"""Deadline of ``wait_until``: a kernel build can take this long to start its compiler on a busy host."""


AS_TYPED = (shutil.which("env") or "env", "--default-signal=INT")
"""Restores the default action of SIGINT. A shell that runs the tests in the background has them ignore it, and children
inherit that."""


@contextmanager
def kill_after(seconds: float, process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill the process if it still runs after so many seconds. A read of its output then ends."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    """Its exit code."""
    output: str
    """Its stdout and stderr."""
    results: Path
    """The directory of its runs."""

    def reports(self) -> list[Path]:
        """Return the run records, oldest first."""
        return sorted(path for path in self.results.glob("*/report.json") if not path.parent.is_symlink())

    def cases(self) -> dict[str, dict[str, Any]]:
        """Return the cases of the latest run, by function and parameters."""
        report = json.loads((self.results / "latest" / "report.json").read_text())
        return {case["id"].partition("::")[2]: case for case in report["cases"]}

    def verdicts(self) -> dict[str, str]:
        """Return the verdicts of the latest run, by case."""
        return {name: case["verdict"] for name, case in self.cases().items()}


class CommandLine:
    """Runs ``vfio-harness`` with its own results and temporary files in ``home``. The cache is the user's.

    Its descendants are found by the name of ``home`` in their environment: TMPDIR has it.
    """

    def __init__(self, home: Path) -> None:
        self.results = home / "results"
        self.tmp = home / "tmp"
        self.tmp.mkdir(parents=True)
        self.env = {**os.environ, "TMPDIR": str(self.tmp), "VFIO_HARNESS_RESULTS": str(self.results)}
        self._home = home
        self.program = PROGRAM
        self.deadline_s = RUN_S
        """How long one command may take."""

    def __call__(self, *args: str | Path) -> Finished:
        """Run the command to its end. It must leave nothing behind."""
        with self.start(*args) as running:
            output, _ = running.process.communicate(timeout=self.deadline_s)
            outcome = Finished(running.process.returncode, output, self.results)
        assert "Traceback (most recent" not in output, output
        self.assert_nothing_left()
        return outcome

    @contextmanager
    def start(self, *args: str | Path) -> Iterator["Running"]:
        """Run the command during the block. Kill its processes that outlive the block."""
        with subprocess.Popen(
            [*AS_TYPED, self.program, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self.env,
            cwd=self._home,
            process_group=0,
        ) as process:
            try:
                with kill_after(self.deadline_s, process):
                    yield Running(self, process)
            finally:
                for pid in self.processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Return the live descendants: pid and command line. Zombies do not count."""
        mark = str(self._home).encode()
        alive = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has ended, or belongs to another user
                    if mark in (entry / "environ").read_bytes():
                        alive[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return alive

    def clear_disk(self) -> None:
        """Remove the results and the temporary files."""
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.rmtree(self.tmp)
        self.tmp.mkdir()

    def assert_nothing_left(self) -> None:
        """Check that no process, no temporary file and no drive of a machine is left.

        A listening port and a lock (flock) end with their process.
        """
        assert not self.processes()
        assert not list(self.tmp.iterdir())
        assert not list(self.results.glob("*/*/*.img"))


@dataclass(frozen=True)
class Running:
    """A command that runs."""

    owner: CommandLine
    process: subprocess.Popen[str]

    def wait_for_line(self, line: str) -> None:
        """Wait until the command prints the line."""
        assert self.process.stdout
        for printed in self.process.stdout:
            if printed.rstrip() == line:
                return
        raise AssertionError(f"it ended before {line!r}")

    def wait_until(self, event: str, happened: Callable[[], object]) -> None:
        """Wait until ``happened()``. Fails if the command ends first, or after ``MOMENT_S``."""
        deadline = time.monotonic() + MOMENT_S
        while not happened():
            assert self.process.poll() is None, f"it ended before {event}:\n{self.process.communicate()[0]}"
            assert time.monotonic() < deadline, f"no {event} within {MOMENT_S:g} s"
            time.sleep(0.02)

    def wait_for_program(self, name: str, number: int = 1) -> None:
        """Wait until ``number`` programs of that name run on behalf of the command."""
        self.wait_until(name, lambda: sum(name in command for command in self.owner.processes().values()) >= number)

    def seconds_until_gone(self) -> float:
        """Wait until no process of the command is alive. Return how long that took."""
        began = time.monotonic()
        while self.process.poll() is None or self.owner.processes():
            assert time.monotonic() - began < 10 * GONE_S, f"still alive: {self.owner.processes()}"
            time.sleep(0.01)
        return time.monotonic() - began

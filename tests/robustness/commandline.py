# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness`` as its user has it: a command line, an exit code, what it printed, and what it left behind."""

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
"""For a whole run on a busy host; a run that is stuck fails the test by this deadline."""
GONE_S = 3.0
"""The issue's bound: how soon after a signal everything is gone."""
MOMENT_S = 120.0


AS_TYPED = (shutil.which("env") or "env", "--default-signal=INT")
"""As a terminal starts it: a shell that puts tests into the background has them ignore SIGINT, and what they start."""


@contextmanager
def killed_after(seconds: float, process: subprocess.Popen[Any]) -> Iterator[None]:
    """A deadline for whoever reads what a process prints: if it is still alive then, it is killed."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Outcome:
    """What a command ended with. ``said`` is its stdout and stderr."""

    code: int
    said: str
    results: Path

    def reports(self) -> list[Path]:
        """The run records written, oldest first."""
        return sorted(path for path in self.results.glob("*/report.json") if not path.parent.is_symlink())

    def cases(self) -> dict[str, dict[str, Any]]:
        """The latest run's cases by the name of their function and parameters."""
        report = json.loads((self.results / "latest" / "report.json").read_text())
        return {case["id"].partition("::")[2]: case for case in report["cases"]}

    def verdicts(self) -> dict[str, str]:
        """The latest run's verdicts by case."""
        return {name: case["verdict"] for name, case in self.cases().items()}


class CommandLine:
    """Runs ``vfio-harness`` in a directory of its own: results, temporary files, and a cache unless it is the user's.

    Whatever descends from it is found by the directory's name in its environment: in TMPDIR, if nowhere else.
    """

    def __init__(self, home: Path) -> None:
        self.results = home / "results"
        self.tmp = home / "tmp"
        self.tmp.mkdir(parents=True)
        self.env = {**os.environ, "TMPDIR": str(self.tmp), "VFIO_HARNESS_RESULTS": str(self.results)}
        self._home = home

    def __call__(self, *args: str | Path) -> Outcome:
        """Run it to its end; then nothing of it may be left."""
        with self.start(*args) as running:
            said, _ = running.process.communicate(timeout=RUN_S)
            outcome = Outcome(running.process.returncode, said, self.results)
        assert "Traceback (most recent" not in said, said
        self.assert_nothing_left()
        return outcome

    @contextmanager
    def start(self, *args: str | Path) -> Iterator["Running"]:
        """Run it meanwhile; whatever of it outlives the block is killed."""
        with subprocess.Popen(
            [*AS_TYPED, PROGRAM, *args],
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
                with killed_after(RUN_S, process):
                    yield Running(self, process)
            finally:
                for pid in self.processes():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """What is alive and descends from this command line, by pid: its command. Zombies are not alive."""
        mark = str(self._home).encode()
        alive = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has gone meanwhile, or is not ours to look at
                    if mark in (entry / "environ").read_bytes():
                        alive[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return alive

    def clear_disk(self) -> None:
        """Remove what runs have written."""
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.rmtree(self.tmp)
        self.tmp.mkdir()

    def assert_nothing_left(self) -> None:
        """No process, and so no listening port and no lock (flock's end with their holder); no temporary file; no drive
        of a machine."""
        assert not self.processes()
        assert not list(self.tmp.iterdir())
        assert not list(self.results.glob("*/*/*.img"))


@dataclass(frozen=True)
class Running:
    """A command under way."""

    owner: CommandLine
    process: subprocess.Popen[str]

    def wait_for_line(self, line: str) -> None:
        """Return once it has printed that line."""
        assert self.process.stdout
        for said in self.process.stdout:
            if said.rstrip() == line:
                return
        raise AssertionError(f"it ended before {line!r}")

    def wait_until(self, what: str, happened: Callable[[], object]) -> None:
        """Return once it has happened, which this run must live to see."""
        deadline = time.monotonic() + MOMENT_S
        while not happened():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.process.communicate()[0]}"
            assert time.monotonic() < deadline, f"no {what} within {MOMENT_S:g} s"
            time.sleep(0.02)

    def wait_for_program(self, name: str, number: int = 1) -> None:
        """Return once as many programs of that name run on behalf of its owner."""
        self.wait_until(name, lambda: sum(name in said for said in self.owner.processes().values()) >= number)

    def seconds_to_vanish(self) -> float:
        """How long it takes, from now, until nothing of it is alive."""
        began = time.monotonic()
        while self.process.poll() is None or self.owner.processes():
            assert time.monotonic() - began < 10 * GONE_S, f"still alive: {self.owner.processes()}"
            time.sleep(0.01)
        return time.monotonic() - began

# SPDX-License-Identifier: GPL-2.0-only
"""Nights in trouble, with real machines: the harness is killed, and a Dask worker is lost with its machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commandline import RUN_S, CommandLine

PLAN = """\
trees: {pinned: {}}
include:
  - owner: nobody
    trees: [pinned]
    machines: [no-iommu-slot, aer]
    focus: true
"""
CELLS = ["pinned-release-no-iommu-slot-default", "pinned-release-aer-default"]
DASK = (sys.executable, "-m", "dask")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def night(harness: CommandLine) -> dict[str, Any]:
    """Return the record of the newest night."""
    return dict(json.loads((harness.results / "nightly" / "latest" / "nightly.json").read_text()))


def codes(harness: CommandLine) -> dict[str, list[int | None]]:
    """Return the exit codes of the runs of each cell."""
    return {result["cell"]: [run["exit_code"] for run in result["runs"]] for result in night(harness)["results"]}


def test_a_night_that_is_killed_twice_continues(harness: CommandLine, plan: Path) -> None:
    """It is killed in its first cell, and again in its second. Neither loses or repeats a cell that was finished."""
    with harness.start("nightly", plan) as running:
        running.wait_for_program("qemu-system")
        running.process.kill()
        running.seconds_until_gone()
    assert codes(harness) == {CELLS[0]: [None], CELLS[1]: []}
    with harness.start("nightly", "--resume") as running:
        running.wait_until("the first cell's end", lambda: codes(harness)[CELLS[0]] == [None, 0])
        running.wait_for_program("qemu-system")
        running.process.kill()
        running.seconds_until_gone()
    assert codes(harness) == {CELLS[0]: [None, 0], CELLS[1]: [None]}
    outcome = harness("nightly", "--resume")
    assert outcome.code == 0, outcome.output
    assert codes(harness) == {CELLS[0]: [None, 0], CELLS[1]: [None, 0]}


def test_ctrl_c_names_the_command_that_continues(harness: CommandLine, plan: Path) -> None:
    with harness.start("nightly", plan) as running:
        running.wait_for_program("qemu-system")
        os.killpg(running.process.pid, signal.SIGINT)
        running.seconds_until_gone()
        output = running.process.communicate()[0]
    assert running.process.returncode == 130
    assert "vfio-harness nightly --resume continues it" in output
    harness.assert_nothing_left()


@contextmanager
def lab(harness: CommandLine) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a Dask scheduler and two workers on 127.0.0.1. Yield its address and the workers."""
    pytest.importorskip("distributed")
    file = harness.tmp / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    commands = [[*DASK, "scheduler", *local, "--port", "0"]]
    commands += [[*DASK, "worker", *local, "--no-nanny", "--nthreads", "1", "--resources", "memory=3000"]] * 2
    started = []
    try:
        for command in commands:
            started.append(subprocess.Popen(command, env=harness.env, cwd=harness.tmp, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + RUN_S
        while not file.exists():
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def machines(harness: CommandLine) -> list[int]:
    """Return the processes of QEMU that are machines, and no questions to QEMU."""
    return [pid for pid, command in harness.processes().items() if re.match(r"\S*qemu-system\S* .*id=qmp", command)]


def worker_of(pid: int, workers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """Return the worker that is an ancestor of a process."""
    while pid > 1:
        if found := next((worker for worker in workers if worker.pid == pid), None):
            return found
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def test_a_worker_that_is_lost_with_its_machine(harness: CommandLine, plan: Path) -> None:
    """Its cell runs again on the other worker. Its machine ends with it."""
    with lab(harness) as (address, workers), harness.start("nightly", plan, "--scheduler", address) as running:
        running.wait_until("a machine", lambda: machines(harness))
        (machine,) = machines(harness)[:1]
        lost = worker_of(machine, workers)
        assert lost
        lost.kill()
        lost.wait()
        output = running.process.communicate(timeout=RUN_S)[0]
        assert running.process.returncode == 0, output
        assert not Path(f"/proc/{machine}").exists()
    found = [run for result in night(harness)["results"] for run in result["runs"]]
    assert sorted(str(run["exit_code"]) for run in found) == ["0", "0", "None"], [
        (run["host"], run["error"]) for run in found
    ]
    (gone,) = [run for run in found if run["exit_code"] is None]
    assert gone["error"] == f"the worker {gone['host']} was lost"
    for run in found:
        if run["exit_code"] == 0:
            assert (harness.results / "nightly" / "latest" / run["directory"] / "report.html").exists()

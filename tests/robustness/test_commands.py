# SPDX-License-Identifier: GPL-2.0-only
"""Test commands other than ``run``, and two runs at once."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import RUN_S, CommandLine, kill_after

from harness.kernel import Kernel
from harness.paths import VM_CASES

DOORBELL = ("run", VM_CASES / "test_doorbell.py", "-k", "test_doorbell_reaches and iommufd and edu")
QUIT_S = 20
QUIT = b"\x01x"
"""Ctrl-a x, to QEMU's ``-serial mon:stdio``."""


def test_two_runs_at_once_do_not_meet(harness: CommandLine) -> None:
    with harness.start(*DOORBELL) as one, harness.start(*DOORBELL) as other:
        one.wait_for_program("qemu-system", 2)
        output = [run.process.communicate(timeout=RUN_S)[0] for run in (one, other)]
        assert (one.process.returncode, other.process.returncode) == (0, 0), output
    harness.assert_nothing_left()
    reports = [json.loads(path.read_text()) for path in sorted(harness.results.glob("2*/report.json"))]
    assert len({report["run_id"] for report in reports}) == 2
    assert [[case["verdict"] for case in report["cases"]] for report in reports] == [["PASS"], ["PASS"]]
    latest = harness.results / "latest"
    assert latest.readlink().name in {report["run_id"] for report in reports}
    assert {path.name for path in harness.results.iterdir()} == {"latest", *(r["run_id"] for r in reports)}


@pytest.fixture
def shown(harness: CommandLine) -> Iterator[str]:
    """Return the output of ``--show-command``. Remove the directory that the printed commands make."""
    outcome = harness("run", "--show-command")
    assert outcome.code == 0
    assert not outcome.results.exists()
    lines = outcome.output[outcome.output.index("mkdir -p ") :]
    yield lines
    shutil.rmtree(Path(shlex.split(lines)[2]), ignore_errors=True)


def test_shown_command_boots_by_hand(harness: CommandLine, shown: str, tmp_path: Path) -> None:
    script = shown.replace("\n/", "\nexec /")  # so that the deadline kills QEMU, not a shell
    with subprocess.Popen(
        ["sh", "-e", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as machine:
        assert machine.stdin
        assert machine.stdout
        with kill_after(RUN_S, machine):
            assert any(b"vfio-harness: ready" in line for line in machine.stdout), "it ended before it was ready"
        machine.stdin.write(QUIT)
        machine.stdin.flush()
        machine.communicate(timeout=QUIT_S)
        assert machine.returncode == 0


@pytest.mark.parametrize(("command", "code"), [("uname -r", 0), ("false", 1)])
def test_shell_passes_on_output_and_exit_code(
    harness: CommandLine, default_kernel: Kernel, command: str, code: int
) -> None:
    outcome = harness("shell", *command.split())
    assert outcome.code == code
    assert (default_kernel.release in outcome.output.splitlines()) == (code == 0)


def test_shell_with_empty_input(harness: CommandLine) -> None:
    """A login shell ends with its input, and the machine with the shell."""
    outcome = harness("shell")
    assert outcome.code == 0
    assert "The machine ends with the shell" in outcome.output

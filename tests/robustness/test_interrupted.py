# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C, SIGTERM and SIGKILL at any moment: everything is gone within 3 s, and the next run works."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import CASES, GONE_S, CommandLine, Running
from conftest import borrow

from harness.kernel import Kernel


def ctrl_c(running: Running) -> None:
    os.killpg(running.process.pid, signal.SIGINT)


WAYS: dict[str, tuple[Callable[[Running], None], int]] = {
    "Ctrl-C": (ctrl_c, 130),
    "SIGINT": (lambda running: running.process.send_signal(signal.SIGINT), 130),
    "SIGTERM": (lambda running: running.process.send_signal(signal.SIGTERM), 130),
    "SIGKILL": (lambda running: running.process.kill(), -signal.SIGKILL),
}


def interrupt(running: Running, way: str) -> str:
    """End a run that way; returns what it said. What a SIGKILL leaves on disk is no matter: it cannot be helped."""
    act, code = WAYS[way]
    act(running)
    took = running.seconds_to_vanish()
    said = running.process.communicate()[0]
    print(f"{way}: gone after {took:.2f} s")
    assert took <= GONE_S
    assert running.process.returncode == code, said
    if code > 0:
        assert said.rstrip().endswith("interrupted: everything that was started is gone")
        assert "Traceback" not in said
        assert "Error" not in said
        running.owner.assert_nothing_left()
    return said


def assert_next_run_passes(harness: CommandLine) -> None:
    outcome = harness("run", "-k", "test_no_doorbell and edu")
    assert outcome.code == 0, outcome.said


@pytest.mark.parametrize("way", WAYS)
def test_during_kernel_build(harness: CommandLine, default_kernel: Kernel, tmp_path: Path, way: str) -> None:
    build(harness, default_kernel, tmp_path, "cc1", way)

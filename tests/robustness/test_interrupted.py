# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C, SIGTERM and SIGKILL at any moment: everything is gone within 3 s, and the next run works."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import CASES, GONE_S, CommandLine, Outcome, Running
from conftest import borrow, overlay

from harness.kernel import Kernel
from harness.paths import VM_CASES

STAY = CASES / "stay.py"
END = "interrupted: everything that was started is gone"


def ctrl_c(running: Running) -> None:
    """As the terminal does it: every process of the foreground group."""
    os.killpg(running.process.pid, signal.SIGINT)


WAYS: dict[str, tuple[Callable[[Running], None], int]] = {
    "Ctrl-C": (ctrl_c, 130),
    "SIGINT": (lambda running: running.process.send_signal(signal.SIGINT), 130),
    "SIGTERM": (lambda running: running.process.send_signal(signal.SIGTERM), 130),
    "SIGKILL": (lambda running: running.process.kill(), -signal.SIGKILL),
}


def interrupt(running: Running, way: str, *, bound: float = GONE_S) -> str:
    """End a run that way, and see that nothing is left of it, but what a SIGKILL leaves on disk: cleared here."""
    act, code = WAYS[way]
    act(running)
    took = running.seconds_to_vanish()
    said = running.process.communicate()[0]
    print(f"{way}: gone after {took:.2f} s")
    assert took <= bound
    assert running.process.returncode == code, said
    if code > 0:
        assert said.rstrip().endswith(END), said
        assert "Traceback" not in said
        assert "error:" not in said
    else:
        running.owner.clear_disk()
    running.owner.assert_nothing_left()
    return said


def passes(harness: CommandLine) -> None:
    outcome = harness("run", VM_CASES / "test_doorbell.py", "-k", "test_no_doorbell and iommufd and edu")
    assert outcome.code == 0, outcome.said
    assert list(outcome.verdicts().values()) == ["PASS"]


@pytest.fixture
def own_kernel_cache(harness: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line with an empty kernel cache."""
    borrow(tmp_path / "cache", "image", "qemu", "kvm")
    harness.env["VFIO_HARNESS_CACHE"] = str(tmp_path / "cache")
    return harness


def test_while_a_kernel_is_fetched(own_kernel_cache: CommandLine) -> None:
    for way in "Ctrl-C", "SIGKILL":
        with own_kernel_cache.start("run", STAY) as running:
            running.wait_for_program("apt-get")
            interrupt(running, way)


def test_while_a_kernel_is_built(own_kernel_cache: CommandLine, default_kernel: Kernel, tmp_path: Path) -> None:
    """The build goes on where it was, and no lock is in its way: each round is the next run of the one before."""
    assert default_kernel.source_dir
    overlay(default_kernel.source_dir, tree := tmp_path / "linux")
    for way in "Ctrl-C", "SIGTERM", "SIGKILL", "SIGINT":
        with own_kernel_cache.start("run", "--kernel", tree, STAY) as running:
            running.wait_for_program("cc1")
            interrupt(running, way)


def test_while_the_guest_image_is_built(harness: CommandLine, tmp_path: Path) -> None:
    borrow(tmp_path / "cache", "kernel", "qemu", "kvm")
    harness.env["VFIO_HARNESS_CACHE"] = str(tmp_path / "cache")
    for way in "Ctrl-C", "SIGTERM", "SIGKILL":
        with harness.start("run", STAY) as running:
            running.wait_for_program("mmdebstrap")
            interrupt(running, way)
    passes(harness)


def test_while_the_machine_boots(harness: CommandLine) -> None:
    for way in WAYS:
        with harness.start("run", STAY, "-k", "edu") as running:
            running.wait_for_program("qemu-system")
            interrupt(running, way)
    passes(harness)


def test_in_a_case(harness: CommandLine) -> None:
    """What was judged until then is in the run's record."""
    for way in WAYS:
        with harness.start("run", STAY, "-k", "first or iommufd and edu") as running:
            running.wait_for_line("in the case")
            interrupt(running, way)
        if way != "SIGKILL":
            assert Outcome(0, "", harness.results).verdicts() == {"test_first": "PASS"}
    passes(harness)

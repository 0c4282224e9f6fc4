# SPDX-License-Identifier: GPL-2.0-only
"""Interrupt a run at various moments: every process is gone within 3 s, and the next run passes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import CASES, GONE_S, CommandLine, Finished, Running
from copies import borrow, overlay

from harness.kernel import Kernel
from harness.paths import VM_CASES

STAY = CASES / "stay.py"
END = "interrupted: everything that was started is gone"


def ctrl_c(running: Running) -> None:
    """Send SIGINT to the process group, as a terminal does."""
    os.killpg(running.process.pid, signal.SIGINT)


WAYS: dict[str, tuple[Callable[[Running], None], int]] = {
    "Ctrl-C": (ctrl_c, 130),
    "SIGINT": (lambda running: running.process.send_signal(signal.SIGINT), 130),
    "SIGTERM": (lambda running: running.process.send_signal(signal.SIGTERM), 130),
    "SIGKILL": (lambda running: running.process.kill(), -signal.SIGKILL),
}


def interrupt(running: Running, way: str, *, bound: float = GONE_S) -> str:
    """Interrupt a run, and check that nothing is left of it. Only SIGKILL may leave files, which are removed here.

    Return the output.
    """
    act, code = WAYS[way]
    act(running)
    took = running.seconds_until_gone()
    output = running.process.communicate()[0]
    print(f"{way}: gone after {took:.2f} s")
    assert took <= bound
    assert running.process.returncode == code, output
    if code > 0:
        assert output.rstrip().endswith(END), output
        assert "Traceback" not in output
        assert "error:" not in output
    else:
        running.owner.clear_disk()
    running.owner.assert_nothing_left()
    return output


def assert_next_run_passes(harness: CommandLine) -> None:
    outcome = harness("run", VM_CASES / "test_doorbell.py", "-k", "test_no_doorbell and iommufd and edu")
    assert outcome.code == 0, outcome.output
    assert list(outcome.verdicts().values()) == ["PASS"]


@pytest.fixture
def own_kernel_cache(harness: CommandLine, tmp_path: Path) -> CommandLine:
    """Return the command line with an empty kernel cache."""
    borrow(tmp_path / "cache", "image", "qemu", "kvm")
    harness.env["VFIO_HARNESS_CACHE"] = str(tmp_path / "cache")
    return harness


def test_while_a_kernel_is_fetched(own_kernel_cache: CommandLine) -> None:
    for way in "Ctrl-C", "SIGKILL":
        with own_kernel_cache.start("run", STAY) as running:
            running.wait_for_program("apt-get")
            interrupt(running, way)


def test_while_a_kernel_is_built(own_kernel_cache: CommandLine, default_kernel: Kernel, tmp_path: Path) -> None:
    """Each round continues the build of the one before, and no lock blocks it."""
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
    assert_next_run_passes(harness)


def test_while_the_machine_boots(harness: CommandLine) -> None:
    for way in WAYS:
        with harness.start("run", STAY, "-k", "edu") as running:
            running.wait_for_program("qemu-system")
            interrupt(running, way)
    assert_next_run_passes(harness)


def test_in_a_case(harness: CommandLine) -> None:
    """The run record has the cases that were judged before."""
    for way in WAYS:
        with harness.start("run", "--jobs=1", STAY, "-k", "first or iommufd and edu") as running:
            running.wait_for_line("in the case")
            interrupt(running, way)
        if way != "SIGKILL":
            assert Finished(0, "", harness.results).verdicts() == {"test_first": "PASS"}
    assert_next_run_passes(harness)

# SPDX-License-Identifier: GPL-2.0-only
"""A full disk is an ERROR that names the disk and never blames the kernel. With room again, the next run passes."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import CASES, CommandLine, Finished
from copies import borrow, overlay

from harness.kernel import Kernel
from harness.paths import VM_CASES

DOORBELL = (VM_CASES / "test_doorbell.py", "-k", "test_doorbell_reaches and iommufd and edu")
NO_SPACE = re.compile("no space left", re.I)


@dataclass
class SmallDisk:
    """A small file system, mounted at ``path``."""

    path: Path

    def resize(self, size: str, *also: str) -> None:
        """Mount it with a size, e.g. ``1m``, and further options of mount(8)."""
        options = ",".join([f"size={size}", *also])
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return a small file system, mounted. Unmount it after the test."""
    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    disk = SmallDisk(tmp_path / "small")
    disk.path.mkdir()
    disk.resize("100m")
    yield disk
    subprocess.run(["umount", disk.path], check=True)


def assert_blames_the_disk(outcome: Finished) -> None:
    assert outcome.code == 3, outcome.output
    assert NO_SPACE.search(outcome.output)
    for verdict in "FAIL", "HANG", "CRASH", "SPLAT", "PASS":
        assert f"\n{verdict}" not in outcome.output


@pytest.fixture
def small_results(harness: CommandLine, disk: SmallDisk) -> CommandLine:
    harness.results = disk.path
    harness.env["VFIO_HARNESS_RESULTS"] = str(disk.path)
    return harness


def test_results(small_results: CommandLine, disk: SmallDisk) -> None:
    """The disk is full from the start, or the machine's console fills it. Then there is room again."""
    for size in "64k", "1040k":
        disk.resize(size, "remount")
        assert_blames_the_disk(small_results("run", *DOORBELL))
    disk.resize("100m", "remount")
    assert small_results("run", *DOORBELL).code == 0


def test_results_filled_in_a_case(small_results: CommandLine) -> None:
    """Missing lines of trace and console do not count against the kernel."""
    assert_blames_the_disk(small_results("run", CASES / "full.py"))


@pytest.fixture
def small_cache(harness: CommandLine, disk: SmallDisk) -> CommandLine:
    harness.env["VFIO_HARNESS_CACHE"] = str(disk.path)
    return harness


def test_cache_without_room_for_the_image(small_cache: CommandLine, disk: SmallDisk) -> None:
    borrow(disk.path, "kernel", "qemu", "kvm")
    disk.resize("1m", "remount")
    assert_blames_the_disk(small_cache("run", *DOORBELL))
    assert sorted(path.name for path in (disk.path / "image").iterdir()) == ["lock"]


def test_cache_without_room_for_the_source(small_cache: CommandLine, disk: SmallDisk) -> None:
    borrow(disk.path, "image", "qemu", "kvm")
    disk.resize("1m", "remount")
    assert_blames_the_disk(small_cache("run", *DOORBELL))


def test_cache_without_room_for_the_build(
    small_cache: CommandLine, disk: SmallDisk, default_kernel: Kernel, tmp_path: Path
) -> None:
    assert default_kernel.source_dir
    overlay(default_kernel.source_dir, tree := tmp_path / "linux")
    borrow(disk.path, "image", "qemu", "kvm")
    disk.resize("1m", "remount")
    assert_blames_the_disk(small_cache("run", "--kernel", tree, *DOORBELL))

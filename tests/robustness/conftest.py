# SPDX-License-Identifier: GPL-2.0-only
"""What tests of the harness's behaviour in trouble share."""

from pathlib import Path

import pytest
from commandline import CommandLine

from harness import paths
from harness.kernel import Kernel, KernelSpec, obtain
from harness.progress import silent


@pytest.fixture(scope="session")
def default_kernel() -> Kernel:
    """The kernel of a run that names none, built if it is not there yet."""
    return obtain(KernelSpec(), silent)


@pytest.fixture
def harness(tmp_path: Path, default_kernel: Kernel) -> CommandLine:
    """The command line, with the user's cache."""
    return CommandLine(tmp_path)


def borrow(cache: Path, *rooms: str) -> None:
    """Make a cache of its own, with some rooms of the user's."""
    cache.mkdir()
    for room in rooms:
        (cache / room).symlink_to(paths.cache_dir() / room)

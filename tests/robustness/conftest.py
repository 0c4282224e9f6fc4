# SPDX-License-Identifier: GPL-2.0-only
"""What tests of the harness's behaviour in trouble share."""

import shutil
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
    cache.mkdir(exist_ok=True)
    for room in rooms:
        (cache / room).symlink_to(paths.cache_dir() / room)


def overlay(tree: Path, copy: Path, *edited: str) -> None:
    """Make a tree of links to ``tree``, of which the files ``edited`` are copies, to be changed."""
    copy.mkdir()
    for entry in tree.iterdir():
        inside = [name.partition("/")[2] for name in edited if name.partition("/")[0] == entry.name]
        if inside == [""]:
            shutil.copy(entry, copy / entry.name)
        elif inside:
            overlay(entry, copy / entry.name, *inside)
        else:
            (copy / entry.name).symlink_to(entry)

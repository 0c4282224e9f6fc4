# SPDX-License-Identifier: GPL-2.0-only
"""Make caches and source trees that a test may damage, mostly of symlinks."""

import shutil
from pathlib import Path

from harness import paths


def borrow(cache: Path, *parts: str) -> None:
    """Make a cache that shares these parts with the user's cache, and lacks all others."""
    cache.mkdir(exist_ok=True)
    for part in parts:
        (cache / part).symlink_to(paths.cache_dir() / part)


def overlay(tree: Path, copy: Path, *edited: str) -> None:
    """Make a tree of symlinks to the files of ``tree``. The files ``edited`` are copies, which the test may change."""
    copy.mkdir()
    for entry in tree.iterdir():
        inside = [name.partition("/")[2] for name in edited if name.partition("/")[0] == entry.name]
        if inside == [""]:
            shutil.copy(entry, copy / entry.name)
        elif inside:
            overlay(entry, copy / entry.name, *inside)
        else:
            (copy / entry.name).symlink_to(entry)

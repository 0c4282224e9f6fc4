# SPDX-License-Identifier: GPL-2.0-only
"""Start a fresh checkout's build from the closest existing build.

A fresh checkout's files are newer than those objects, so make would compile everything. So each file that is the same
in both trees gets the date of the older one.
"""

import filecmp
import os
import re
from itertools import takewhile
from pathlib import Path

from harness.kernel.build import patched_tree, tree
from harness.kernel.cache import cache_path
from harness.kernel.model import Flavour
from harness.kernel.source.resolve import SourceTree, release_parts
from harness.progress import Phase

_SERIES_PARTS = 2
"""How many parts of a release name its series: 7.2."""
_PROGRESS_EVERY = 1000
"""Files compared between two progress lines."""


def start_from_nearest_build(fresh: SourceTree, flavour: Flavour, step: Phase) -> bool:
    """Copy the finished build of the nearest release of the same series (7.2, say) for the tree ``fresh``.

    Does nothing if ``fresh`` has a build directory, or if there is no such build. Returns whether it copied one. No
    other process may change ``fresh`` meanwhile."""
    build_dir = tree.build_dir_of(fresh, flavour)
    built = None if build_dir.exists() else _nearest_build(fresh.path, flavour)
    if built is None:
        return False
    with tree.lock_build(built, step):
        _copy_dates(fresh.path, (built / "source").resolve(), step)
        patched_tree.copy_build(built, fresh.path, build_dir, step)
    return True


def _nearest_build(top: Path, flavour: Flavour) -> Path | None:
    """Return the build whose release has the most parts in common with that of ``top``; of several, the latest."""
    name = re.compile(rf".*-{flavour}(-[0-9a-f]{{16}})?")
    wanted = release_parts(top)
    ranks: list[tuple[int, float, Path]] = []
    for built in cache_path("build", ".").iterdir():
        pairs = zip(wanted, release_parts(built / "source"), strict=False)
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if name.fullmatch(built.name) and common >= _SERIES_PARTS and (stamp := tree.stamp_of(built)).exists():
            ranks.append((common, stamp.stat().st_mtime, built))
    return max(ranks)[2] if ranks else None


def _copy_dates(top: Path, other: Path, step: Phase) -> None:
    """Give each file of ``top`` that is the same in ``other`` the date that it has there."""
    names = tree.sources_of(top)
    for number, name in enumerate(names):
        if number % _PROGRESS_EVERY == 0:
            step.progress("comparing the sources", number / len(names))
        mine, theirs = top / name, other / name
        if mine.is_file() and theirs.is_file() and not mine.is_symlink() and filecmp.cmp(mine, theirs, shallow=False):
            status = theirs.stat()
            os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))

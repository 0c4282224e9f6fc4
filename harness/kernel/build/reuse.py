# SPDX-License-Identifier: GPL-2.0-only
"""A source tree that was checked out just now starts from the objects of one like it, where there is a build of that.

Objects are older than a fresh checkout's files, and make compiles everything anew. So a file that is the same in both
trees gets the date that it has in the other.
"""

import filecmp
import os
import re
from itertools import takewhile
from pathlib import Path

from harness.kernel.build import patched_tree, tree
from harness.kernel.cache import cache_path, locked
from harness.kernel.model import Flavour
from harness.kernel.modules import oot
from harness.kernel.source.resolve import SourceTree, release_parts
from harness.progress import Phase

_SERIES = 2
"""So many parts make a series: 7.2."""
_TELL_EVERY = 1000


def start_from_nearest_build(fresh: SourceTree, flavour: Flavour, step: Phase) -> bool:
    """Give ``fresh``, which nobody changes meanwhile, a build directory made of the finished build of a kernel of its
    series (7.2, say) that is nearest to it. Does nothing if it has one already, or there is none to start from."""
    build_dir = tree.build_dir_of(fresh, flavour)
    made = None if build_dir.exists() else _nearest(fresh.path, flavour)
    if made is None:
        return False
    with locked(oot.work_of(made), step):
        _date_as(fresh.path, (made / "source").resolve(), step)
        patched_tree.copy_build(made, fresh.path, build_dir, step)
    return True


def _nearest(top: Path, flavour: Flavour) -> Path | None:
    """Of those whose release has most in common with that of ``top``, the latest."""
    name = re.compile(rf".*-{flavour}(-[0-9a-f]{{16}})?")
    wanted = release_parts(top)
    ranks: list[tuple[int, float, Path]] = []
    for made in cache_path("build", ".").iterdir():
        pairs = zip(wanted, release_parts(made / "source"), strict=False)
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if name.fullmatch(made.name) and common >= _SERIES and (stamp := tree.stamp_of(made)).exists():
            ranks.append((common, stamp.stat().st_mtime, made))
    return max(ranks)[2] if ranks else None


def _date_as(top: Path, other: Path, step: Phase) -> None:
    names = tree.sources_of(top)
    for number, name in enumerate(names):
        if number % _TELL_EVERY == 0:
            step.progress("comparing the sources", number / len(names))
        mine, theirs = top / name, other / name
        if mine.is_file() and theirs.is_file() and not mine.is_symlink() and filecmp.cmp(mine, theirs, shallow=False):
            status = theirs.stat()
            os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))

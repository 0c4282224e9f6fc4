# SPDX-License-Identifier: GPL-2.0-only
"""A source tree that was checked out just now starts from the objects of one like it, where there is a build of that.

Objects are older than a fresh checkout's files, and make compiles everything anew. So a file that is the same in both
trees gets the date that it has in the other.
"""

import filecmp
import os
import re
from pathlib import Path

from harness.kernel import external, source, store, tree, workspace
from harness.kernel.model import Flavour
from harness.progress import Phase

_SERIES = re.compile(r"^(?:VERSION|PATCHLEVEL) = *(\d+)", re.M)
_TELL_EVERY = 1000


def seed(fresh: source.Tree, flavour: Flavour, step: Phase) -> bool:
    """Give ``fresh``, which nobody changes meanwhile, a build directory made of the latest finished build of a kernel
    of its series (7.2, say). Does nothing if it has one already, or there is none to start from."""
    build_dir = tree.build_dir_of(fresh, flavour)
    made = None if build_dir.exists() else _nearest(fresh.path, flavour)
    if made is None:
        return False
    with store.locked(external.work_of(made), step):
        _date_as(fresh.path, (made / "source").resolve(), step)
        workspace.copy_build(made, fresh.path, build_dir, step)
    return True


def _nearest(top: Path, flavour: Flavour) -> Path | None:
    """By the dates of their stamps."""
    name = re.compile(rf".*-{flavour}(-[0-9a-f]{{16}})?")
    builds = [made for made in store.place("build", ".").iterdir() if name.fullmatch(made.name)]
    stamps = [tree.stamp_of(made) for made in builds if _series(made / "source") == _series(top)]
    found = max((stamp for stamp in stamps if stamp.exists()), key=lambda stamp: stamp.stat().st_mtime, default=None)
    return found.parent if found else None


def _series(top: Path) -> list[str]:
    makefile = top / "Makefile"
    return _SERIES.findall(makefile.read_text(errors="replace")) if makefile.is_file() else []


def _date_as(top: Path, other: Path, step: Phase) -> None:
    names = tree.sources_of(top)
    for number, name in enumerate(names):
        if number % _TELL_EVERY == 0:
            step.progress("comparing the sources", number / len(names))
        mine, theirs = top / name, other / name
        if mine.is_file() and theirs.is_file() and not mine.is_symlink() and filecmp.cmp(mine, theirs, shallow=False):
            status = theirs.stat()
            os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))

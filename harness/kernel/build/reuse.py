# SPDX-License-Identifier: GPL-2.0-only
"""Start a tree's first build from the closest existing build.

A fresh checkout's files are newer than objects that were compiled from the same text, so make would compile everything.
So the copied objects get the present date, and those that another text went into are removed. The tree stays untouched.
"""

import filecmp
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Set
from itertools import takewhile
from pathlib import Path

from harness.errors import HarnessError
from harness.host.files import fresh_dir
from harness.kernel.build import patched_tree, tree
from harness.kernel.cache import cache_path
from harness.kernel.model import Flavour
from harness.kernel.source.resolve import SourceTree, release_parts
from harness.progress import Phase

_SERIES_PARTS = 2
"""How many parts of a release name its series: 7.2."""
_RECIPES = ("Makefile", "Kbuild", "Kconfig")
"""How the names of the files begin that Kbuild reads, and that no command it has recorded mentions."""


def start_from_nearest_build(fresh: SourceTree, flavour: Flavour, step: Phase) -> bool:
    """Copy the finished build of the nearest release of the same series (7.2, say) for the tree ``fresh``.

    Does nothing if ``fresh`` has a build directory, or if there is no such build. Returns whether it copied one. The
    caller holds the lock of the build directory of ``fresh``."""
    build_dir = tree.build_dir_of(fresh, flavour)
    built = None if build_dir.exists() else _nearest_build(fresh, flavour)
    if built is None:
        return False
    top = tree.buildable(fresh, step)
    with tree.lock_build(built, step), fresh_dir(build_dir) as copy:
        tree.stamp_of(copy).touch()  # before the tree is read: a later edit is newer than what is copied
        now = tree.stamp_of(copy).stat().st_mtime_ns
        source, modules = (built / "source").resolve(), tree.modules_dir_of(built)
        made, made_modules = _made_from(built, source), _made_from(modules, source)
        differing = _differing(fresh, built, made.keys() | made_modules.keys(), step)
        patched_tree.copy_build(built, top, copy, build_dir, step)
        _keep(copy, made, differing, now)
        if differing:
            tree.stamp_of(copy).unlink()
        if modules.is_dir():
            with fresh_dir(tree.modules_dir_of(build_dir)) as copied:
                patched_tree.copy_modules(built, top, copied, build_dir)
                _keep(copied, made_modules, differing, now)
    return True


def _nearest_build(fresh: SourceTree, flavour: Flavour) -> Path | None:
    """Return the build whose release has the most parts in common with that of ``fresh``; of several, the latest."""
    name = re.compile(rf".*-{tree.kind_of(fresh, flavour)}(-[0-9a-f]{{16}})?")
    wanted = release_parts(fresh.path)
    ranks: list[tuple[int, float, Path]] = []
    for built in cache_path("build", ".").iterdir():
        pairs = zip(wanted, release_parts(built / "source"), strict=False)
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if name.fullmatch(built.name) and common >= _SERIES_PARTS and (stamp := tree.stamp_of(built)).exists():
            ranks.append((common, stamp.stat().st_mtime, built))
    return max(ranks)[2] if ranks else None


def _differing(fresh: SourceTree, built: Path, read: Set[str], step: Phase) -> set[str]:
    """Return the files in which ``fresh`` differs from what was built, of ``read`` and of Kbuild's own files."""
    step.progress(f"comparing the sources with those of {built.name}")
    recipes = {name for name in tree.sources_of(fresh.path) if Path(name).name.startswith(_RECIPES)}
    built_at = tree.stamp_of(built).stat().st_mtime_ns
    return {name for name in read | recipes if not _same(fresh.path, built, name, built_at)}


def _keep(copy: Path, made: Mapping[str, set[str]], differing: set[str], date: int) -> None:
    """Remove what was ``made`` from ``differing`` files, and date the rest."""
    for name in set().union(*(made.get(each, ()) for each in differing)):
        stale = (copy / name).resolve()
        if not stale.is_relative_to(copy.resolve()):
            raise HarnessError(f"{stale}, which Kbuild names in {copy}, is not the harness's own")
        stale.unlink(missing_ok=True)
    for directory, _, names in os.walk(copy):
        for name in names:
            os.utime(os.path.join(directory, name), ns=(date, date), follow_symlinks=False)  # noqa: PTH118


def _made_from(built: Path, top: Path) -> dict[str, set[str]]:
    """Return, for each source file of ``top`` in the commands that Kbuild has recorded, what was made from it.

    That includes a C file that was itself generated: not every rule that generates one is recorded."""
    found: dict[str, set[str]] = defaultdict(set)
    source = re.compile(re.escape(f"{top}/") + r"([^\s)\"';]+)")
    generated = re.compile(r"(?:^|\s)(\w[\w./-]*\.c)(?=\s|$)", re.MULTILINE)  # relative, so not one of the tree
    for record in built.rglob(".*.cmd"):
        text = record.read_text(errors="replace")
        made = {str(record.relative_to(built).with_name(record.name[1 : -len(".cmd")]))}
        made.update(name for name in generated.findall(text) if (built / name).is_file())
        for name in source.findall(text):
            found[os.path.normpath(name)] |= made
    return {name: made for name, made in found.items() if not (top / name).is_dir()}


def _same(top: Path, built: Path, name: str, built_at: int) -> bool:
    """Check whether a file of ``top`` is what the build ``built`` was made from."""
    mine, theirs = top / name, built / "source" / name
    if not mine.is_file() or not theirs.is_file():
        return mine.exists() == theirs.exists()
    status = theirs.stat()
    edited_since = max(status.st_mtime_ns, status.st_ctime_ns) > built_at
    return not edited_since and filecmp.cmp(mine, theirs, shallow=False)

# SPDX-License-Identifier: GPL-2.0-only
"""Builds a source tree out of tree, in the cache, without touching the tree, and only what changed."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.host import process
from harness.host.files import disk_full_reported, write_atomically
from harness.kernel import features, uapi
from harness.kernel.build import kbuild, kconfig
from harness.kernel.cache import cache_path, digest
from harness.kernel.model import Flavour
from harness.kernel.source.resolve import SourceTree, run_git
from harness.progress import Phase

_BUILT = "harness-built"
_FARM_LIST = "harness-files"
_TELL_EVERY = 10_000


def build_dir_of(tree: SourceTree, flavour: Flavour) -> Path:
    """Where the tree is built: keyed by its place, so that an edit rebuilds what it touches. A pristine tree's
    is keyed by the configuration as well."""
    key = f"{tree.key}-{flavour}"
    if tree.pristine:
        key += f"-{digest(kconfig.fragment(flavour, tree.path))}"
    return cache_path("build", key)


def build(tree: SourceTree, flavour: Flavour, build_dir: Path, step: Phase) -> Path:
    """Bring the build of ``tree`` up to date; returns the source directory that make was given.

    Raises KernelBuildError, or KernelLacksFeature before building what cannot be tested."""
    wishes = kconfig.fragment(flavour, tree.path)
    build_dir.mkdir(exist_ok=True)
    stamp, next_stamp = stamp_of(build_dir), build_dir / f"{_BUILT}.next"
    next_stamp.touch()  # before the tree is looked at: an edit during the build counts as later
    changed = changed_since(tree, stamp, step)
    top, farm = tree.path, cache_path("farm", tree.key)
    # Once a farm, always a farm: another path would rebuild everything.
    if not tree.symlinked and (is_unclean(tree.path) or farm.is_dir()):
        make_symlink_tree(tree.path, farm, step)
        top = farm
    if _wishes_of(build_dir) != wishes:
        changed = None
    if changed == []:
        step.result = "nothing changed"
        return top
    if changed is None or any(map(_steers_kconfig, changed)):
        stamp.unlink(missing_ok=True)
        kbuild.configure(top, build_dir, wishes, step)
        config = kconfig.read(build_dir / ".config")
        features.require_export(config, uapi.read(top), tree.origin)
        kconfig.require(config, tree.origin)
    kbuild.build(top, build_dir, step)
    next_stamp.rename(stamp)
    step.result = _told(changed)
    return top


def stamp_of(build_dir: Path) -> Path:
    """The file whose date is that of the sources which the last good build was made of."""
    return build_dir / _BUILT


def _wishes_of(build_dir: Path) -> str:
    wanted = build_dir / "harness.config"
    return wanted.read_text() if wanted.exists() else ""


def changed_since(tree: SourceTree, stamp: Path, step: Phase) -> list[str] | None:
    """Files and directories of the tree changed since the last good build; None if there was none.

    By change time as well as modification time: a file moved in with an old date counts."""
    if not stamp.exists():
        return None
    if tree.pristine:
        return []
    newer: list[str | Path] = ["(", "-newer", stamp, "-o", "-cnewer", stamp, ")"]
    find = ["find", *(["-L"] if tree.symlinked else []), ".", "-name", ".git", "-prune", "-o", *newer, "-print"]
    return process.check(find, cwd=tree.path, on_tick=lambda: step.progress("looking for changes"))


def _steers_kconfig(changed: str) -> bool:
    return changed == "./Makefile" or Path(changed).name.startswith("Kconfig")


def _told(changed: list[str] | None) -> str:
    if changed is None:
        return "built"
    files = [c.removeprefix("./") for c in changed if Path(c).suffix]
    return f"rebuilt after {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else "") if files else "rebuilt"


def is_unclean(tree: Path) -> bool:
    """Whether the tree was configured or built in place: Kbuild then refuses to build it with O= (its Makefile,
    target ``outputmakefile``)."""
    marks = (tree / ".config", tree / "include" / "config", tree / "arch" / "x86" / "include" / "generated")
    return any(mark.exists() for mark in marks)


def make_symlink_tree(tree: Path, farm: Path, step: Phase) -> None:
    """Make ``farm`` show the tree's sources, by one symbolic link per file, without what a build left in it.

    Raises UsageError where that cannot be told apart."""
    wanted = sources_of(tree)
    record = farm.parent / f"{farm.name}.{_FARM_LIST}"
    present = set(record.read_text().split("\0")) if farm.is_dir() and record.exists() else set()
    with disk_full_reported():
        _unlink(farm, present - wanted)
        _link(tree, farm, wanted - present, step)
        write_atomically(record, "\0".join(sorted(wanted)))


def sources_of(tree: Path) -> set[str]:
    """The tree's files, relative to it, without those a build made: git knows which is which.

    Raises UsageError where there is no git, and the tree was built in place."""
    try:
        listed = "\n".join(run_git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    except HarnessError as e:
        if not is_unclean(tree):
            return set(_walk(tree))
        raise UsageError(
            f"{tree} was built in place, and is not under git to tell its sources from its objects",
            hint=f"make -C {tree} mrproper (this removes its .config)",
        ) from e
    return {name for name in listed.split("\0") if name and os.path.lexists(tree / name)}


def _walk(tree: Path) -> Iterator[str]:
    for top, _, files in os.walk(tree):
        inside = os.path.relpath(top, tree)
        yield from (name if inside == "." else f"{inside}/{name}" for name in files)


def _unlink(farm: Path, names: Iterable[str]) -> None:
    for name in names:
        (farm / name).unlink(missing_ok=True)


def _link(tree: Path, farm: Path, names: Collection[str], step: Phase) -> None:
    made: set[str] = set()
    for number, name in enumerate(names):
        if number % _TELL_EVERY == 0:
            step.progress("linking the sources", number / len(names))
        target = os.path.join(farm, name)  # noqa: PTH118 - ninety thousand of them: a Path each costs a second
        parent = os.path.dirname(target)  # noqa: PTH120
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103
            made.add(parent)
        if os.path.lexists(target):
            os.unlink(target)  # noqa: PTH108
        os.symlink(f"{tree}/{name}", target)  # noqa: PTH211

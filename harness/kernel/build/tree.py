# SPDX-License-Identifier: GPL-2.0-only
"""Build a source tree out of tree, in the cache: the tree stays untouched, and only what changed is built."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from harness.config import DEFAULT_ARCH, architectures
from harness.errors import HarnessError, UsageError
from harness.host import process
from harness.host.files import disk_full_reported, update_file_links, write_atomically
from harness.kernel.build import kbuild, kconfig, provenance
from harness.kernel.build.features import require_export
from harness.kernel.build.modules_only import only_modules
from harness.kernel.build.provenance import BuildTime
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.model import Flavour
from harness.kernel.source.git import run_git
from harness.kernel.source.resolve import SourceTree
from harness.kernel.source.uapi import read_export
from harness.progress import Phase

log = logging.getLogger(__name__)

_BUILT = "harness-built"
_CHANGED = "harness-changed"
"""The file of a build directory that lists the sources whose change led to the last build."""


def build_dir_of(tree: SourceTree, flavour: Flavour) -> Path:
    """Return the tree's build directory.

    It is keyed by the tree's path, so that an edit rebuilds only what it touches. A pristine tree's is keyed by the
    configuration as well."""
    key = f"{tree.key}-{kind_of(tree, flavour)}"
    if tree.pristine:
        key += f"-{digest(kconfig.fragment(flavour, tree.path, tree.arch))}"
    return cache_path("build", key)


def kind_of(tree: SourceTree, flavour: Flavour) -> str:
    """Return the part of a build directory's name that says how the tree is built."""
    return flavour if tree.arch == DEFAULT_ARCH else f"{flavour}-{tree.arch}"


def modules_dir_of(build_dir: Path) -> Path:
    """Return the directory for the harness's own modules that are built against this build."""
    top = build_dir.resolve()
    return cache_path("external", f"{top.name}-{digest(str(top))}")


def lock_build(build_dir: Path, step: Phase) -> AbstractContextManager[None]:
    """Lock a build directory, and the modules built against it."""
    return locked(modules_dir_of(build_dir), step)


def build(tree: SourceTree, flavour: Flavour, build_dir: Path, step: Phase) -> Path:
    """Bring the build of ``tree`` up to date; return the source directory that make was given.

    Raises KernelBuildError, or KernelLacksFeature before it builds a kernel that cannot be tested."""
    options = kconfig.fragment(flavour, tree.path, tree.arch)
    build_dir.mkdir(exist_ok=True)
    stamp, next_stamp = stamp_of(build_dir), build_dir / f"{_BUILT}.next"
    next_stamp.touch()  # before the tree is read: an edit during the build counts as later
    changed = changed_since(tree, stamp, step)
    top = buildable(tree, step)
    if _options_of(build_dir) != options:
        changed = None
    if changed == []:
        step.result = "nothing changed"
        log.debug("kernel build: cache hit: %s", build_dir)
        return top
    files = [name.removeprefix("./") for name in changed or () if Path(name).suffix]
    write_atomically(build_dir / _CHANGED, "\n".join(files))
    started, began = datetime.now(UTC), time.monotonic()
    if changed is None or any(map(_affects_kconfig, changed)):
        stamp.unlink(missing_ok=True)
        kbuild.configure(top, build_dir, options, step, tree.arch)
        config = kconfig.read(build_dir / ".config")
        require_export(config, read_export(top), tree.origin)
        kconfig.require(config, tree.origin)
    modules = changed is not None and only_modules(changed, build_dir, kconfig.read(build_dir / ".config"))
    kbuild.build(top, build_dir, step, modules_only=modules, counted=tree.counted)
    took = BuildTime(started=started.isoformat(timespec="seconds"), duration_s=round(time.monotonic() - began, 3))
    write_atomically(build_dir / provenance.TIME, took.model_dump_json())
    next_stamp.rename(stamp)
    step.result = _summary(changed)
    return top


def buildable(tree: SourceTree, step: Phase) -> Path:
    """Return the directory to build the tree from: the tree, or links to its sources if it was built in place."""
    links = cache_path("farm", tree.key)
    # A tree once built through links is always built through them: another path would rebuild everything.
    if not tree.symlinked and (is_unclean(tree.path) or links.is_dir()):
        make_symlink_tree(tree.path, links, step)
        return links
    return tree.path


def stamp_of(build_dir: Path) -> Path:
    """Return the stamp file of a build: its date is that of the sources in the last good build."""
    return build_dir / _BUILT


def last_changed(build_dir: Path) -> list[str]:
    """Return the sources whose change led to the last build, relative to the tree; none for a first build."""
    listed = build_dir / _CHANGED
    return listed.read_text().splitlines() if listed.is_file() else []


def _options_of(build_dir: Path) -> str:
    wanted = build_dir / kbuild.OPTIONS
    return wanted.read_text() if wanted.exists() else ""


def changed_since(tree: SourceTree, stamp: Path, step: Phase) -> list[str] | None:
    """Return the files and directories changed since the last good build; None if there was none.

    Compares change times as well as modification times: a file moved in with an old date counts."""
    if not stamp.exists():
        return None
    if tree.pristine:
        return []
    newer: list[str | Path] = ["(", "-newer", stamp, "-o", "-cnewer", stamp, ")"]
    follow = ["-L"] if tree.symlinked else []
    find = ["find", *follow, ".", "-name", ".git", "-prune", "-o", *newer, "-print"]
    return process.check(find, cwd=tree.path, on_tick=lambda: step.progress("looking for changes"))


def _affects_kconfig(changed: str) -> bool:
    return changed == "./Makefile" or Path(changed).name.startswith("Kconfig")


def _summary(changed: list[str] | None) -> str:
    if changed is None:
        return "built"
    files = [name.removeprefix("./") for name in changed if Path(name).suffix]
    if not files:
        return "rebuilt"
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"rebuilt after {files[0]}{more}"


def is_unclean(tree: Path) -> bool:
    """Check whether the tree was configured or built in place.

    Kbuild then refuses to build it with O= (its Makefile, target ``outputmakefile``)."""
    generated = (tree / "arch" / each.kernel.arch / "include" / "generated" for each in architectures().values())
    marks = (tree / ".config", tree / "include" / "config", *generated)
    return any(mark.exists() for mark in marks)


def make_symlink_tree(tree: Path, links: Path, step: Phase) -> None:
    """Make ``links`` show the tree's sources, one symbolic link per file, without the files that a build left there.

    Raises UsageError where sources and objects cannot be distinguished."""
    names = sources_of(tree)
    with disk_full_reported():
        update_file_links(tree, links, names, step)


def sources_of(tree: Path) -> set[str]:
    """Return the tree's files, relative to it, without those that a build made: git knows which is which.

    Raises UsageError where there is no git, and the tree was built in place."""
    try:
        listed = "\n".join(run_git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    except HarnessError as e:
        if not is_unclean(tree):
            return set(_walk(tree))
        raise UsageError(
            f"{tree} was built in place and is not a git tree: its sources cannot be separated from its objects",
            hint=f"make -C {tree} mrproper (this removes its .config)",
        ) from e
    return {name for name in listed.split("\0") if name and os.path.lexists(tree / name)}


def _walk(tree: Path) -> Iterator[str]:
    for top, _, files in os.walk(tree):
        inside = os.path.relpath(top, tree)
        yield from (name if inside == "." else f"{inside}/{name}" for name in files)

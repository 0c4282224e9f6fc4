# SPDX-License-Identifier: GPL-2.0-only
"""Remove what no run has used for a while from the kernel cache, and nothing that a run uses now.

Whatever is removed is made again when a run needs it.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.host.held import IN_USE, LEAST_S, Removed, is_held, last_change, prune_held, size_of
from harness.kernel.build.tree import modules_dir_of
from harness.kernel.cache import cache_path, locked_now
from harness.kernel.obtain import OWNER_DIGITS, owner_of


def prune_cache(keep_s: float, *, dry_run: bool) -> Iterator[Removed]:
    """Remove the entries that no run has used for ``keep_s`` seconds, and yield each.

    Bootable kernels, object trees with the modules built against them, workspaces of changed kernels, checkouts of
    bisections and fetched series are judged by their own age. The sources of Debian, the checkouts of commits and the
    symlink trees go with their last object tree. Clones stay, so that the next fetch is short. ``dry_run``: remove
    nothing.
    """
    before = time.time() - max(keep_s, LEAST_S)
    trees = {entry: entry for entry in _entries("build")} | {entry: entry / "build" for entry in _entries("changed")}
    last_use = {entry: _last_use(entry, build) for entry, build in trees.items()}  # before the bootable kernels go
    for entry in _entries("ready"):
        if last_change(entry) < before:
            yield prune_held(entry, dry_run=dry_run)
    gone: set[Path] = set()
    for entry, build in trees.items():
        if last_use[entry] < before:
            removed = _remove_build(entry, build, dry_run)
            if not removed.kept:
                gone.add(entry)
            yield removed
    yield from _remove_others(before, trees, gone, dry_run)


def _remove_others(before: float, trees: dict[Path, Path], gone: set[Path], dry_run: bool) -> Iterator[Removed]:
    """Remove what no object tree in the cache needs. ``gone``: those that are removed."""
    own = {modules_dir_of(build) for build in trees.values()}
    for entry in _entries("external"):
        ready = _ready(entry.name.rpartition("-")[2][:OWNER_DIGITS])
        if entry not in own and _newest([entry, *entry.iterdir(), *ready]) < before:
            kept = any(map(is_held, ready))
            yield Removed(entry, 0, IN_USE) if kept else _remove_locked(entry, [entry], entry, dry_run)
    for entry in _entries("bisect"):
        if _newest([entry, *entry.iterdir()]) < before:
            yield _remove_locked(entry, [entry], entry, dry_run)
    for entry in _entries("series"):
        if last_change(entry) < before:
            yield _remove_file(entry, dry_run)
    left = [entry.name for entry in trees if entry not in gone]
    for entry in [*_entries("source"), *_entries("farm"), *_entries("checkout")]:
        if last_change(entry) < before and not any(name.startswith(f"{entry.name}-") for name in left):
            held = entry.parent.name == "checkout"
            yield prune_held(entry, dry_run=dry_run) if held else _remove_locked(entry, [entry], entry, dry_run)


def _entries(kind: str) -> list[Path]:
    return sorted(path for path in cache_path(kind, ".").glob("*") if not path.name.startswith("."))


def _newest(paths: Iterable[Path]) -> float:
    return max(map(last_change, paths))


def _ready(owner: str) -> list[Path]:
    return sorted(cache_path("ready", ".").glob(f"{owner}-*"))


def _last_use(entry: Path, build: Path) -> float:
    """Return when the object tree was built or booted last. Each build touches a file in it."""
    return _newest([entry, build, *build.glob("*"), *build.glob(".config"), *_ready(owner_of(build))])


def _remove_build(entry: Path, build: Path, dry_run: bool) -> Removed:
    """Remove an object tree, or the workspace that it is in, with the modules built against it."""
    modules = modules_dir_of(build)
    if any(map(is_held, _ready(owner_of(build)))):
        return Removed(entry, 0, IN_USE)
    return _remove_locked(entry, [entry, modules], modules if entry == build else entry, dry_run)


def _remove_locked(entry: Path, paths: list[Path], lock: Path, dry_run: bool) -> Removed:
    with locked_now(lock) as free:
        if not free:
            return Removed(entry, 0, IN_USE)
        size = sum(map(size_of, paths))
        for path in paths:
            if not dry_run:
                shutil.rmtree(path, ignore_errors=True)
        return Removed(entry, size)


def _remove_file(file: Path, dry_run: bool) -> Removed:
    size = size_of(file)
    if not dry_run:
        file.unlink(missing_ok=True)
    return Removed(file, size)

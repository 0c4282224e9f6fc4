# SPDX-License-Identifier: GPL-2.0-only
"""Where a changed kernel is built: a copy of a source tree made of links, and a build that starts as a copy of the
tree's own, so that only what a change touches is compiled.

There is one workspace for each tree and flavour; it is brought from one change to the next. Nothing outside of the
cache is written: what a change touches is a file of the workspace's own.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.host.files import disk_full_reported, fresh_dir, write_atomically
from harness.kernel.build import tree
from harness.kernel.cache import cache_path, locked
from harness.kernel.model import Flavour
from harness.kernel.modules import oot
from harness.kernel.source.change import SourceChange
from harness.kernel.source.resolve import SourceTree
from harness.progress import Phase

_OWN_LIST = "harness-own-files"


def workspace_of(base: SourceTree, flavour: Flavour) -> Path:
    """The workspace's directory: ``source`` and ``build`` are in it."""
    return cache_path("changed", tree.build_dir_of(base, flavour).name)


def prepare(base: SourceTree, flavour: Flavour, change: SourceChange, step: Phase) -> tuple[SourceTree, Path]:
    """Bring the workspace's sources to ``base`` with ``change``; returns them as a tree, and its build directory.

    To be called, and the build made, with the workspace locked. Raises what ``change`` does."""
    there = workspace_of(base, flavour)
    top, build_dir = there / "source", there / "build"
    files = change.files(base.path)
    there.mkdir(exist_ok=True)
    tree.make_symlink_tree(base.path, top, step)
    _put(base.path, top, files, there / _OWN_LIST)
    if not build_dir.exists():
        _seed(base, flavour, top, build_dir, step)
    origin = f"{base.origin} + {change.name}"
    return replace(base, path=top, origin=origin, pristine=False, symlinked=True), build_dir


def _put(base: Path, top: Path, files: Mapping[str, bytes | None], record: Path) -> None:
    """Give ``top`` these files. One that an earlier change touched stays a file of our own, with the base's content:
    the link it once was leads to a date that is older than the object made of it."""
    own = set(record.read_text().split("\0")) - {""} if record.exists() else set()
    write_atomically(record, "\0".join(sorted(own | files.keys())))
    for name in own | files.keys():
        path, original = top / name, base / name
        content = files[name] if name in files else original.read_bytes() if original.is_file() else None
        if content is None:
            path.unlink(missing_ok=True)
        elif path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            path.unlink(missing_ok=True)  # never through the link
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            mode = original.stat().st_mode if original.exists() else 0o644
            path.chmod(mode | 0o111 if content.startswith(b"#!") else mode)  # all that modes of patches come to


def _seed(base: SourceTree, flavour: Flavour, top: Path, build_dir: Path, step: Phase) -> None:
    """Start from the tree's own build, if it has one."""
    made = tree.build_dir_of(base, flavour)
    with locked(oot.work_of(made), step):
        if tree.stamp_of(made).exists():
            copy_build(made, top, build_dir, step)


def copy_build(made: Path, top: Path, build_dir: Path, step: Phase) -> None:
    """Make ``build_dir`` a copy of the build ``made``, as if built from ``top``: every command that Kbuild has recorded
    then names these two. Where that is not so, Kbuild sees another command, and compiles. To be called with ``made``
    locked."""
    built_from = (made / "source").resolve()
    with disk_full_reported(), fresh_dir(build_dir) as copy:
        step.progress(f"copying the build {made.name}")
        shutil.copytree(made, copy, symlinks=True, dirs_exist_ok=True)
        os.symlink(top, copy / "source.new")  # noqa: PTH211
        (copy / "source.new").rename(copy / "source")
        for recorded in [copy / "Makefile", *copy.rglob(".*.cmd")]:
            _rename_in(recorded, {str(built_from): str(top), str(made): str(build_dir)})


def _rename_in(path: Path, names: Mapping[str, str]) -> None:
    """Put new paths in the place of old ones, and keep the date."""
    text = original = path.read_bytes()
    for old, new in names.items():
        text = text.replace(old.encode(), new.encode())
    if text != original:
        status = path.stat()
        path.write_bytes(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

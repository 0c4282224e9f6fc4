# SPDX-License-Identifier: GPL-2.0-only
"""The workspace of changed kernels: a symlink tree of a source tree, and a copy of the tree's own build.

Each tree and flavour has one workspace that runs share, and others that have a name. A workspace moves from one change
to the next, and only what a change touches is compiled. A changed file is the workspace's own; nothing outside the
cache is written.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.host.files import disk_full_reported, fresh_dir, write_atomically
from harness.kernel.build import tree
from harness.kernel.cache import cache_path
from harness.kernel.model import Flavour, SourceChange
from harness.kernel.source.resolve import SourceTree
from harness.progress import Phase

_OWN_LIST = "harness-own-files"


def workspace_of(base: SourceTree, flavour: Flavour, name: str) -> Path:
    """Return a workspace's directory, with ``source`` and ``build`` in it. ``name``: empty for the shared one."""
    return cache_path("changed", "-".join(filter(None, [tree.build_dir_of(base, flavour).name, name])))


def prepare(
    base: SourceTree, flavour: Flavour, change: SourceChange, workspace: Path, step: Phase
) -> tuple[SourceTree, Path]:
    """Bring a workspace's sources to ``base`` with ``change``; return them as a tree, and its build directory.

    The caller holds the workspace's lock, here and during the build. Raises the errors of ``change``."""
    top, build_dir = workspace / "source", workspace / "build"
    files = change.files(base.path)
    workspace.mkdir(exist_ok=True)
    tree.make_symlink_tree(base.path, top, step)
    _write_changed(base.path, top, files, workspace / _OWN_LIST)
    if not build_dir.exists():
        _start_from_own_build(base, flavour, top, build_dir, step)
    origin = f"{base.origin} + {change.name}"
    counted = tuple(sorted(name for name, text in files.items() if name.endswith(".c") and text is not None))
    return replace(base, path=top, origin=origin, pristine=False, symlinked=True, counted=counted), build_dir


def _write_changed(base: Path, top: Path, files: Mapping[str, bytes | None], record: Path) -> None:
    """Write the changed ``files`` to ``top``.

    A file that an earlier change touched stays a file, with the base's content: the link to the base would have a date
    older than the object built from the change."""
    own = set(record.read_text().split("\0")) - {""} if record.exists() else set()
    write_atomically(record, "\0".join(sorted(own | files.keys())))
    for name in own | files.keys():
        path, original = top / name, base / name
        unchanged = original.read_bytes() if original.is_file() else None
        content = files.get(name, unchanged)
        if content is None:
            path.unlink(missing_ok=True)
        elif path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            path.unlink(missing_ok=True)  # never through the link
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            mode = original.stat().st_mode if original.exists() else 0o644
            path.chmod(mode | 0o111 if content.startswith(b"#!") else mode)  # a patch's only change of mode


def _start_from_own_build(base: SourceTree, flavour: Flavour, top: Path, build_dir: Path, step: Phase) -> None:
    """Copy the tree's own build, if there is a finished one."""
    built = tree.build_dir_of(base, flavour)
    with tree.lock_build(built, step):
        if tree.stamp_of(built).exists():
            with disk_full_reported(), fresh_dir(build_dir) as copy:
                copy_build(built, top, copy, build_dir, step)


def copy_build(built: Path, top: Path, copy: Path, build_dir: Path, step: Phase) -> None:
    """Fill ``copy`` with the build ``built``, as if built from ``top`` in ``build_dir``.

    Every command that Kbuild has recorded gets the new paths. Otherwise Kbuild sees another command, and compiles.
    The caller holds the lock of ``built``."""
    step.progress(f"copying the build {built.name}")
    shutil.copytree(built, copy, symlinks=True, dirs_exist_ok=True)
    (copy / "source").unlink(missing_ok=True)
    (copy / "source").symlink_to(top)
    for recorded in [copy / "Makefile", *copy.rglob(".*.cmd")]:
        _replace_paths(recorded, _new_names(built, top, build_dir))


def copy_modules(built: Path, top: Path, copy: Path, build_dir: Path) -> None:
    """Fill ``copy`` with the harness's modules of the build ``built``, as if built against that in ``build_dir``.

    The caller holds the lock of ``built``."""
    old, new = tree.modules_dir_of(built), tree.modules_dir_of(build_dir)
    shutil.copytree(old, copy, symlinks=True, dirs_exist_ok=True)
    for recorded in copy.rglob(".*.cmd"):
        _replace_paths(recorded, {str(old): str(new), **_new_names(built, top, build_dir)})


def _new_names(built: Path, top: Path, build_dir: Path) -> dict[str, str]:
    return {str((built / "source").resolve()): str(top), str(built): str(build_dir)}


def _replace_paths(path: Path, names: Mapping[str, str]) -> None:
    """Replace old paths by new ones in a file, and keep its date."""
    text = original = path.read_bytes()
    for old, new in names.items():
        text = text.replace(old.encode(), new.encode())
    if text != original:
        status = path.stat()
        path.write_bytes(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

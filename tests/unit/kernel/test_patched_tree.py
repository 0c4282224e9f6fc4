# SPDX-License-Identifier: GPL-2.0-only
"""A changed kernel's sources: the workspace owns only the files that a change touches, and the base stays unchanged."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernel.build import kbuild, patched_tree, tree
from harness.kernel.cache import cache_path
from harness.kernel.source.resolve import SourceTree, resolve_kernel
from harness.progress import Phase, silent

STEP = Phase(silent, "test")
LOCK, MAIN = "drivers/vfio/lock.c", "drivers/vfio/main.c"


@dataclass
class Rewrite:
    """A change that replaces files."""

    changed: Mapping[str, bytes | None]
    name: str = "rewrite"
    patches: tuple[str, ...] = ("rewrite",)

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        return self.changed


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceTree:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "linux"
    (top / "drivers" / "vfio").mkdir(parents=True)
    for name in ("Kconfig", "Kbuild", "Makefile", LOCK, MAIN):
        (top / name).write_text(f"{name}\n")
    found = resolve_kernel(str(top), silent)
    assert isinstance(found, SourceTree)
    return found


def _prepare(base: SourceTree, changed: Mapping[str, bytes | None], name: str = "") -> Path:
    workspace = patched_tree.workspace_of(base, "release", name)
    return patched_tree.prepare(base, "release", Rewrite(changed), workspace, STEP)[0].path


def test_a_change_is_the_workspaces_own_file(base: SourceTree) -> None:
    top = _prepare(base, {LOCK: b"broken\n"})
    assert (top / LOCK).read_bytes() == b"broken\n"
    assert not (top / LOCK).is_symlink()
    assert (base.path / LOCK).read_text() == f"{LOCK}\n"
    assert (top / MAIN).resolve() == base.path / MAIN


def test_a_named_workspace_is_left_alone_by_the_shared_one(base: SourceTree) -> None:
    top = _prepare(base, {LOCK: b"broken\n"}, "mutants")
    assert _prepare(base, {}) != top
    assert (top / LOCK).read_bytes() == b"broken\n"


def test_a_file_that_changes_back_gets_a_new_date(base: SourceTree) -> None:
    top = _prepare(base, {LOCK: b"broken\n"})
    broken = (top / LOCK).stat().st_mtime_ns
    _prepare(base, {MAIN: b"broken too\n"})
    assert (top / LOCK).read_text() == f"{LOCK}\n"
    assert not (top / LOCK).is_symlink()
    assert (top / LOCK).stat().st_mtime_ns > broken


def test_the_same_change_again_touches_nothing(base: SourceTree) -> None:
    top = _prepare(base, {LOCK: b"broken\n"})
    before = (top / LOCK).stat()
    _prepare(base, {LOCK: b"broken\n"})
    assert (top / LOCK).stat().st_mtime_ns == before.st_mtime_ns
    assert (top / LOCK).stat().st_ino == before.st_ino


def test_files_come_and_go_with_the_change(base: SourceTree) -> None:
    top = _prepare(base, {"drivers/new/file.c": b"new\n", MAIN: None})
    assert (top / "drivers/new/file.c").read_bytes() == b"new\n"
    assert not (top / MAIN).exists()
    _prepare(base, {})
    assert not (top / "drivers/new/file.c").exists()
    assert (top / MAIN).read_text() == f"{MAIN}\n"
    assert (base.path / MAIN).exists()


def test_an_edit_of_the_base_shows_through(base: SourceTree) -> None:
    top = _prepare(base, {LOCK: b"broken\n"})
    (base.path / MAIN).write_text("edited\n")
    (base.path / "drivers/vfio/added.c").write_text("added\n")
    _prepare(base, {LOCK: b"broken\n"})
    assert (top / MAIN).read_text() == "edited\n"
    assert (top / "drivers/vfio/added.c").read_text() == "added\n"


def test_objects_start_as_a_copy_of_the_base_build(base: SourceTree) -> None:
    made = tree.build_dir_of(base, "release")
    made.mkdir(parents=True)
    (made / "source").symlink_to(base.path)
    (made / "main.o").write_text("object")
    (made / "Makefile").write_text(f"include {base.path}/Makefile\n")
    (made / ".main.o.cmd").write_text(f"gcc -I{base.path}/include -o {made}/main.o\n")
    tree.stamp_of(made).touch()
    workspace = patched_tree.workspace_of(base, "release", "")
    changed, build_dir = patched_tree.prepare(base, "release", Rewrite({LOCK: b"broken\n"}), workspace, STEP)
    assert (build_dir / ".main.o.cmd").read_text() == f"gcc -I{changed.path}/include -o {build_dir}/main.o\n"
    assert (build_dir / ".main.o.cmd").stat().st_mtime_ns == (made / ".main.o.cmd").stat().st_mtime_ns
    assert (build_dir / "Makefile").read_text() == f"include {changed.path}/Makefile\n"
    assert (build_dir / "source").resolve() == changed.path.resolve()
    assert (made / "source").resolve() == base.path
    assert tree.changed_since(changed, tree.stamp_of(build_dir), STEP) is not None


def test_the_workspace_is_in_the_cache(base: SourceTree, tmp_path: Path) -> None:
    assert _prepare(base, {LOCK: b"broken\n"}).is_relative_to(tmp_path / "cache")
    assert cache_path("changed", "x").is_relative_to(tmp_path / "cache")


def test_a_new_script_is_executable(base: SourceTree) -> None:
    top = _prepare(base, {"scripts/check.sh": b"#!/bin/sh\n", MAIN: b"broken\n"})
    assert os.access(top / "scripts/check.sh", os.X_OK)
    assert (top / MAIN).stat().st_mode == (base.path / MAIN).stat().st_mode


def test_the_sources_that_a_change_touches_are_counted(base: SourceTree) -> None:
    """The coverage flavour counts them, besides the kernel's path."""
    workspace = patched_tree.workspace_of(base, "coverage", "")
    change = Rewrite({LOCK: b"a\n", MAIN: None, "include/x.h": b"b\n"})
    (workspace / "build").mkdir(parents=True)
    made, _ = patched_tree.prepare(base, "coverage", change, workspace, STEP)
    assert made.counted == (LOCK,)
    words = kbuild._profiled({"GCOV_KERNEL": "y"}, made.counted)
    assert "GCOV_PROFILE_lock.o=y" in words
    assert "GCOV_PROFILE_vfio_pci_dmabuf.o=y" in words
    assert kbuild._profiled({}, made.counted) == []

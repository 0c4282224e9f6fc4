# SPDX-License-Identifier: GPL-2.0-only
"""A tree's first build starts from the nearest one: what is made from the same text is kept, the rest is made again."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.kernel.build import reuse, tree
from harness.kernel.source.resolve import SourceTree, resolve_kernel
from harness.progress import Phase, silent

STEP = Phase(silent, "test")
MAKEFILE = "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 1\n"
LATER = 4e9
"""A date in seconds since 1970, later than that of any build."""


def resolved(top: Path) -> SourceTree:
    found = resolve_kernel(str(top), silent)
    assert isinstance(found, SourceTree)
    return found


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The build directory of a tree with two objects: main.o from main.c and lock.h, table.o from a generated file."""
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "first"
    top.mkdir()
    for name in ("Kconfig", "Kbuild", "main.c", "lock.h", "table.txt"):
        (top / name).write_text(f"{name}\n")
    (top / "Makefile").write_text(MAKEFILE)
    made = tree.build_dir_of(resolved(top), "release")
    made.mkdir(parents=True)
    (made / "source").symlink_to(top)
    (made / "Makefile").write_text(f"include {top}/Makefile\n")
    for name in ("main.o", "table.o", "table.c"):
        (made / name).write_text("made")
    (made / ".main.o.cmd").write_text(f"savedcmd := gcc {top}/main.c\ndeps := \\\n  {top}/./lock.h \\\n")
    (made / ".table.o.cmd").write_text(f"savedcmd := gcc table.c\ndeps := \\\n  {top}/table.txt \\\n")
    tree.stamp_of(made).touch()
    return made


@pytest.fixture
def other(built: Path, tmp_path: Path) -> SourceTree:
    """Another tree with the same text, and with later dates."""
    top = tmp_path / "other"
    shutil.copytree(tmp_path / "first", top)
    for file in top.iterdir():
        os.utime(file, (1e9, 1e9))
    return resolved(top)


def dates(fresh: SourceTree) -> dict[str, tuple[float, float]]:
    return {file.name: ((status := file.stat()).st_mtime, status.st_ctime) for file in fresh.path.iterdir()}


def start(fresh: SourceTree) -> Path:
    """Start the build of a tree, which must not be touched. Returns the build directory."""
    before = dates(fresh)
    assert reuse.start_from_nearest_build(fresh, "release", STEP)
    assert dates(fresh) == before
    return tree.build_dir_of(fresh, "release")


def test_an_identical_tree_needs_no_build(other: SourceTree) -> None:
    copy = start(other)
    assert (copy / "main.o").read_text() == "made"
    assert (copy / "source").resolve() == other.path
    assert (copy / "Makefile").read_text() == f"include {other.path}/Makefile\n"
    assert tree.changed_since(other, tree.stamp_of(copy), STEP) == []


@pytest.mark.parametrize("changed", ["main.c", "lock.h"])
def test_what_another_text_went_into_is_made_again(other: SourceTree, changed: str) -> None:
    (other.path / changed).write_text("edited\n")
    os.utime(other.path / changed, (1e9, 1e9))
    copy = start(other)
    assert not (copy / "main.o").exists()
    assert (copy / "table.o").stat().st_mtime >= (other.path / "table.txt").stat().st_mtime
    assert not tree.stamp_of(copy).exists()


def test_a_generated_source_is_made_again(other: SourceTree) -> None:
    (other.path / "table.txt").write_text("edited\n")
    copy = start(other)
    assert not (copy / "table.o").exists()
    assert not (copy / "table.c").exists()
    assert (copy / "main.o").exists()


def test_a_removed_header_makes_its_users_again(other: SourceTree) -> None:
    (other.path / "lock.h").unlink()
    assert not (start(other) / "main.o").exists()


def test_what_was_edited_since_it_was_built_is_made_again(other: SourceTree, tmp_path: Path, built: Path) -> None:
    for top in (other.path, tmp_path / "first"):
        (top / "lock.h").write_text("edited in both\n")
    os.utime(tmp_path / "first" / "lock.h", (LATER, LATER))
    assert not (start(other) / "main.o").exists()


def test_a_later_edit_is_seen(other: SourceTree) -> None:
    copy = start(other)
    os.utime(other.path / "main.c", (LATER, LATER))
    assert tree.changed_since(other, tree.stamp_of(copy), STEP) == ["./main.c"]


def test_another_series_or_flavour_is_no_start(other: SourceTree) -> None:
    assert not reuse.start_from_nearest_build(other, "debug", STEP)
    (other.path / "Makefile").write_text(MAKEFILE.replace("= 2", "= 3"))
    assert not reuse.start_from_nearest_build(other, "release", STEP)


def test_a_tree_with_a_build_keeps_it(other: SourceTree) -> None:
    start(other)
    assert not reuse.start_from_nearest_build(other, "release", STEP)


def test_another_architectures_build_is_no_start(built: Path, other: SourceTree) -> None:
    foreign = replace(other, arch="arm64")
    assert tree.build_dir_of(foreign, "release") != tree.build_dir_of(other, "release")
    assert not reuse.start_from_nearest_build(foreign, "release", STEP)
    of_arm64 = tree.build_dir_of(foreign, "release")
    of_arm64.parent.mkdir(exist_ok=True)
    built.rename(of_arm64)
    assert not reuse.start_from_nearest_build(other, "release", STEP)

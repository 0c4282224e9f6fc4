# SPDX-License-Identifier: GPL-2.0-only
"""Which files of the unpacked packages the image gets."""

import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.image.packages import Selection


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "unpacked"
    for name in (
        "usr/bin/tool-1",
        "usr/bin/other",
        "usr/share/data/a",
        "usr/share/data/deep/b",
        "usr/share/data/x.skip",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "usr/bin/tool").symlink_to("tool-1")
    (root / "usr/bin/absolute").symlink_to("/usr/bin/tool")
    return root


def _kept(tree: Path, *patterns: str, drop: tuple[str, ...] = ()) -> set[str]:
    selection = Selection(tree, drop)
    for pattern in patterns:
        selection.keep(pattern)
    return {str(path) for path in selection.paths if not (tree / path).is_dir()}


def test_directory_includes_its_tree_and_nothing_else(tree: Path) -> None:
    assert _kept(tree, "usr/share/data") == {
        "usr/share/data/a",
        "usr/share/data/deep/b",
        "usr/share/data/x.skip",
    }


def test_drop_takes_files_and_whole_trees(tree: Path) -> None:
    assert _kept(tree, "usr/share/data", drop=("*.skip", "usr/share/data/deep")) == {"usr/share/data/a"}


@pytest.mark.parametrize("link", ["usr/bin/tool", "usr/bin/absolute"])
def test_link_includes_its_target(tree: Path, link: str) -> None:
    assert {link, "usr/bin/tool-1"} <= _kept(tree, link)


@pytest.mark.parametrize("target", ["missing", "../../../outside"])
def test_link_to_nowhere_is_an_error(tree: Path, target: str) -> None:
    (tree.parent / "outside").write_text("host file")
    (tree / "usr/bin/bad").symlink_to(target)
    with pytest.raises(HarnessError, match=r"usr/bin/bad"):
        _kept(tree, "usr/bin/bad")


def test_pattern_without_a_match_is_an_error(tree: Path) -> None:
    with pytest.raises(HarnessError, match=r"usr/bin/tol"):
        _kept(tree, "usr/bin/tol*")


def test_copy_keeps_links_and_modes(tree: Path, tmp_path: Path) -> None:
    (tree / "usr/bin/tool-1").chmod(0o755)
    selection = Selection(tree, ())
    selection.keep("usr/bin/tool")
    selection.copy(tmp_path / "copy")
    assert (tmp_path / "copy/usr/bin/tool").readlink() == Path("tool-1")
    assert (tmp_path / "copy/usr/bin/tool-1").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "copy/usr/bin/other").exists()


@pytest.fixture
def program(tree: Path) -> Path:
    """Copy a real program of the host; the tree lacks its libraries until a test adds them."""
    shutil.copy(shutil.which("readelf") or pytest.fail("readelf is a prerequisite"), tree / "usr/bin/program")
    return tree


def test_library_that_no_package_contains_is_an_error(program: Path) -> None:
    (program / "usr/lib64").mkdir()
    (program / "usr/lib64/ld-linux-x86-64.so.2").write_text("")
    selection = Selection(program, ())
    selection.keep("usr/bin/program")
    with pytest.raises(HarnessError, match=r"lib.*\.so"):
        selection.keep_libraries()


def test_program_includes_its_libraries(program: Path) -> None:
    (program / "usr/lib64").mkdir()
    (program / "usr/lib64/ld-linux-x86-64.so.2").write_text("")
    lib = program / "usr/lib/x86_64-linux-gnu"
    lib.mkdir(parents=True)
    for name in ("libc.so.6", "libz.so.1", "libunused.so.1", "libzstd.so.1"):
        (lib / name).write_text("")
    selection = Selection(program, ())
    selection.keep("usr/bin/program")
    for _ in range(4):  # the other libraries that this host's readelf links
        try:
            selection.keep_libraries()
            break
        except HarnessError as error:
            (lib / str(error).split("contains ")[1].split(",")[0]).write_text("")
    kept = {path.name for path in selection.paths}
    assert "libc.so.6" in kept
    assert "ld-linux-x86-64.so.2" in kept
    assert "libunused.so.1" not in kept

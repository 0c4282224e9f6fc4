# SPDX-License-Identifier: GPL-2.0-only
"""What KERNEL= accepts, what counts as a change, and how an unclean tree is built elsewhere and stays untouched."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernel.build import tree
from harness.kernel.cache import cache_path, locked
from harness.kernel.modules import oot
from harness.kernel.source.resolve import BuildDirectory, SourceTree, resolve_kernel
from harness.progress import Event, Phase, silent

STEP = Phase(silent, "test")


@pytest.fixture
def kernel_tree(tmp_path: Path) -> Path:
    top = tmp_path / "linux"
    (top / "drivers" / "vfio").mkdir(parents=True)
    for name in ("Kconfig", "Kbuild", "Makefile", "drivers/vfio/vfio_main.c"):
        (top / name).write_text(f"{name}\n")
    return top


def _tree(top: Path) -> SourceTree:
    found = resolve_kernel(str(top), silent)
    assert isinstance(found, SourceTree)
    return found


def _commit(top: Path) -> None:
    (top / ".gitignore").write_text("*.o\n.config\n")
    for args in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *args], cwd=top, check=True)


def test_a_tree_is_keyed_by_its_path(kernel_tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "by-another-name"
    link.symlink_to(kernel_tree)
    assert _tree(kernel_tree).key == _tree(link).key
    assert _tree(kernel_tree).key.startswith("linux-")


def test_a_build_finds_its_source(kernel_tree: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / ".config").touch()
    found = resolve_kernel(str(build), silent)
    assert isinstance(found, BuildDirectory)
    assert found.source is None
    (build / "Makefile").write_text(f"# generated\nexport KBUILD_OUTPUT = .\ninclude {kernel_tree}/Makefile\n")
    found = resolve_kernel(str(build), silent)
    assert isinstance(found, BuildDirectory)
    assert found.source == kernel_tree


@pytest.mark.parametrize(("name", "message"), [("nowhere", "no such directory"), ("empty", "neither a kernel source")])
def test_a_path_without_a_kernel_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        resolve_kernel(str(tmp_path / name), silent)


def _stamp(stamp: Path) -> None:
    """Make a stamp, and wait for the clock's tick: a file written next gets a later date."""
    stamp.touch()
    clock = stamp.with_name("clock")
    clock.touch()
    while clock.stat().st_mtime_ns == stamp.stat().st_mtime_ns:
        clock.touch()


def test_a_change_is_an_edit_an_addition_or_a_removal(kernel_tree: Path, tmp_path: Path) -> None:
    found, stamp = _tree(kernel_tree), tmp_path / "stamp"
    driver = kernel_tree / "drivers" / "vfio" / "vfio_main.c"
    assert tree.changed_since(found, stamp, STEP) is None
    _stamp(stamp)
    assert tree.changed_since(found, stamp, STEP) == []
    driver.write_text("edited\n")
    assert tree.changed_since(found, stamp, STEP) == ["./drivers/vfio/vfio_main.c"]
    _stamp(stamp)
    driver.unlink()
    assert tree.changed_since(found, stamp, STEP) == ["./drivers/vfio"]


def test_a_symlink_tree_shows_sources_and_no_objects(kernel_tree: Path, tmp_path: Path) -> None:
    _commit(kernel_tree)
    (kernel_tree / ".config").write_text("mine\n")
    (kernel_tree / "drivers" / "vfio" / "vfio_main.o").touch()
    (kernel_tree / "drivers" / "vfio" / "new.c").write_text("not yet added\n")
    assert tree.is_unclean(kernel_tree)
    links = tmp_path / "links"
    tree.make_symlink_tree(kernel_tree, links, STEP)
    assert not tree.is_unclean(links)
    assert sorted(p.name for p in (links / "drivers" / "vfio").iterdir()) == ["new.c", "vfio_main.c"]
    (kernel_tree / "drivers" / "vfio" / "vfio_main.c").write_text("edited\n")
    (kernel_tree / "drivers" / "vfio" / "new.c").unlink()
    tree.make_symlink_tree(kernel_tree, links, STEP)
    assert [p.read_text() for p in (links / "drivers" / "vfio").iterdir()] == ["edited\n"]
    assert (kernel_tree / ".config").read_text() == "mine\n"


def test_a_tree_built_in_place_without_git_is_refused_with_the_fix(kernel_tree: Path, tmp_path: Path) -> None:
    (kernel_tree / ".config").touch()
    with pytest.raises(UsageError, match="built in place") as e:
        tree.make_symlink_tree(kernel_tree, tmp_path / "links", STEP)
    assert e.value.hint is not None
    assert "mrproper" in e.value.hint


def test_sync_keeps_dates_of_what_is_unchanged(tmp_path: Path) -> None:
    one, two, work = tmp_path / "one.c", tmp_path / "two.c", tmp_path / "work"
    one.write_text("1")
    two.write_text("2")
    oot.sync({"one.c": one, "two.c": two}, work)
    before = (work / "one.c").stat().st_mtime_ns
    one.touch()
    oot.sync({"one.c": one}, work)
    assert (work / "one.c").stat().st_mtime_ns == before
    assert not (work / "two.c").exists()


def test_a_second_run_waits_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    entry = cache_path("build", "entry")
    first = ExitStack()
    printed: list[str] = []

    def finish_first(event: Event) -> None:
        printed.append(str(event))
        first.close()

    first.enter_context(locked(entry, STEP))
    with locked(entry, Phase(finish_first, "second")):
        assert "waiting for another run that uses entry" in printed[0]

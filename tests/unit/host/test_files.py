# SPDX-License-Identifier: GPL-2.0-only
"""Files of the host: whole or not at all, locked, and trees of symbolic links."""

import errno
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.host import files
from harness.paths import cache_dir
from harness.progress import Event, Phase, silent

STEP = Phase(silent, "test")


def test_a_cache_that_cannot_be_created_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HarnessError, match=r"file/cache: Not a directory") as caught:
        cache_dir()
    assert "VFIO_HARNESS_CACHE" in str(caught.value.hint)


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "entry"
    with pytest.raises(FileNotFoundError), files.fresh_dir(final) as partial:
        (partial / "half").rename(partial / "other")
    assert list(tmp_path.iterdir()) == []
    with files.fresh_dir(final) as partial:
        (partial / "whole").touch()
        assert not final.exists()
    assert [path.name for path in final.iterdir()] == ["whole"]


def test_a_killed_run_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    (tmp_path / ".entry.partial").mkdir()
    (tmp_path / ".entry.partial" / "half").touch()
    with files.fresh_dir(tmp_path / "entry") as partial:
        (partial / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    assert [path.name for path in (tmp_path / "entry").iterdir()] == ["whole"]


def test_a_private_directory_is_private_from_the_start(tmp_path: Path) -> None:
    with files.fresh_dir(tmp_path / "entry", mode=0o700) as partial:
        assert partial.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "entry").stat().st_mode & 0o777 == 0o700


def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    first = ExitStack()
    printed: list[str] = []

    def finish_first(event: Event) -> None:
        printed.append(str(event))
        first.close()

    first.enter_context(files.locked(tmp_path / "lock", "entry", STEP))
    with files.locked(tmp_path / "lock", "entry", Phase(finish_first, "second")):
        assert "waiting for another run that uses entry" in printed[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    with pytest.raises(HarnessError, match=f"no space left in {tmp_path}"), files.disk_full_reported():
        raise OSError(number, "full")


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(PermissionError), files.disk_full_reported():
        raise PermissionError(errno.EACCES, "no")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a/b/one.c", "a/b/two.c", "a/three.c", "c/four.c"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    return tmp_path / "source"


def test_an_overlay_links_what_does_not_change(source: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    files.overlay(source, {"a/b/one.c": b"new", "a/b/two.c": None, "d/five.c": b"added"}, top)
    assert (top / "a/b/one.c").read_text() == "new"
    assert not (top / "a/b/two.c").exists()
    assert (top / "d/five.c").read_text() == "added"
    assert (top / "c").is_symlink()
    assert (top / "a/three.c").is_symlink()
    assert (source / "a/b/one.c").read_text() == "a/b/one.c"


def test_file_links_follow_the_names(source: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    files.update_file_links(source, links, {"a/b/one.c", "c/four.c"}, STEP)
    assert (links / "a/b/one.c").readlink() == source / "a/b/one.c"
    files.update_file_links(source, links, {"c/four.c", "a/three.c"}, STEP)
    assert not (links / "a/b/one.c").is_symlink()
    assert (links / "a/three.c").read_text() == "a/three.c"

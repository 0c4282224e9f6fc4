# SPDX-License-Identifier: GPL-2.0-only
"""What a killed make leaves half-written is built again, and nothing else is."""

import os
from pathlib import Path

import pytest

from harness.kernel.build.unfinished import MARK, finished

SAVED = "savedcmd_a.o := gcc -c -o a.o a.c\n"
WHOLE = f"{SAVED}\nsource_a.o := a.c\n\ndeps_a.o := \\\n  a.h \\\n\na.o: $(deps_a.o)\n\n$(deps_a.o):\n"
WITH_OBJTOOL = f"{WHOLE}\na.o: $(wildcard ./tools/objtool/objtool)\n"
STARTED = 1000.0


def build_dir(top: Path, command: str, *, object_at: float, command_at: float, killed: bool = True) -> Path:
    for name, content, date in (("a.o", "", object_at), (".a.o.cmd", command, command_at)):
        (top / name).write_text(content)
        os.utime(top / name, (date, date))
    (top / "vmlinux").touch()
    if killed:
        (top / MARK).touch()
        os.utime(top / MARK, (STARTED, STARTED))
    return top


def left(top: Path) -> set[str]:
    with finished(top):
        return {path.name for path in top.iterdir()} - {MARK, "vmlinux"}


# Cut after its first line, it looks like that of a link.
@pytest.mark.parametrize("length", {*range(0, len(WHOLE), 7)} - {len(SAVED), len(SAVED) + 1})
def test_a_cut_command_is_removed(tmp_path: Path, length: int) -> None:
    cut = WHOLE[:length]
    build_dir(tmp_path, cut, object_at=STARTED + 1, command_at=STARTED + 2)
    assert left(tmp_path) == {"a.o"}


@pytest.mark.parametrize("command", [SAVED, WHOLE, WITH_OBJTOOL])
def test_a_whole_command_stays(tmp_path: Path, command: str) -> None:
    build_dir(tmp_path, command, object_at=STARTED + 1, command_at=STARTED + 2)
    assert left(tmp_path) == {"a.o", ".a.o.cmd"}


def test_an_object_without_its_new_command_is_removed(tmp_path: Path) -> None:
    build_dir(tmp_path, WHOLE, object_at=STARTED + 1, command_at=STARTED - 1)
    assert left(tmp_path) == {".a.o.cmd"}


def test_an_object_from_before_stays(tmp_path: Path) -> None:
    """Some steps of Kbuild write to an object after its command."""
    build_dir(tmp_path, WHOLE, object_at=STARTED - 1, command_at=STARTED - 2)
    assert left(tmp_path) == {"a.o", ".a.o.cmd"}


def test_after_a_good_build_nothing_is_looked_for(tmp_path: Path) -> None:
    build_dir(tmp_path, "", object_at=STARTED, command_at=STARTED, killed=False)
    assert left(tmp_path) == {"a.o", ".a.o.cmd"}
    assert not (tmp_path / MARK).exists()


def test_a_build_that_fails_keeps_the_mark(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), finished(tmp_path):
        raise OSError("the disk is full")
    assert (tmp_path / MARK).exists()


def test_a_first_build_that_an_older_harness_began(tmp_path: Path) -> None:
    build_dir(tmp_path, WHOLE[:60], object_at=STARTED, command_at=STARTED, killed=False)
    (tmp_path / "vmlinux").unlink()
    assert left(tmp_path) == {"a.o"}

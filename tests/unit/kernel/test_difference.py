# SPDX-License-Identifier: GPL-2.0-only
"""The changed lines of a series and of a git work tree, with their numbers in both texts."""

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernel.source.difference import FileDifference, of_change, patch_text, since

OLD = b"".join(b"line %d\n" % number for number in range(1, 31))


def changed(new: bytes) -> FileDifference:
    return FileDifference("x.c", OLD, new)


def test_each_added_line_has_its_number_in_the_new_text() -> None:
    new = OLD.replace(b"line 3\n", b"line 3\nnew a\n").replace(b"line 20\n", b"other 20\nnew b\n")
    found = changed(new)
    assert found.changed == [4, 21, 22]
    lines = new.decode().splitlines()
    for hunk in found.hunks:
        for line in hunk:
            assert line.new is None or lines[line.new - 1] == line.text
            assert line.old is None or OLD.decode().splitlines()[line.old - 1] == line.text
    assert len(found.hunks) == 2
    assert [line.text for line in found.hunks[1] if line.sign == "-"] == ["line 20"]


def test_patch_takes_the_diff_of_any_text(tmp_path: Path) -> None:
    """Also with a form feed and with bytes that are no UTF-8."""
    old = OLD.replace(b"line 4\n", b"line\x0c 4 \xe9\n")
    new = old.replace(b"line 3\n", b"").replace(b"line 29\n", b"a \xfc\n")
    (tmp_path / "x.c").write_bytes(old)
    diff = patch_text("x.c", old, new).encode(errors="surrogateescape")
    subprocess.run(["patch", "-p1", "-F0"], cwd=tmp_path, input=diff, check=True, capture_output=True)
    assert (tmp_path / "x.c").read_bytes() == new


def test_a_removed_line_touches_its_neighbours_and_changes_none() -> None:
    found = changed(OLD.replace(b"line 10\n", b""))
    assert found.changed == []
    assert found.touched == [9, 10]


def test_a_new_and_a_removed_file() -> None:
    assert FileDifference("x.c", None, b"a\nb").changed == [1, 2]
    gone = FileDifference("x.c", b"a\nb\n", None)
    assert (gone.changed, [line.sign for line in gone.hunks[0]]) == ([], ["-", "-"])


def test_the_first_and_the_last_line_can_change() -> None:
    assert changed(OLD.replace(b"line 1\n", b"first\n", 1)).changed == [1]
    assert changed(OLD + b"last\n").changed == [31]


def test_a_change_is_compared_with_what_an_earlier_one_left(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_bytes(OLD)
    fixed = OLD.replace(b"line 5\n", b"fixed 5\n")
    both = fixed.replace(b"line 9\n", b"new 9\n")
    (found,) = of_change(tmp_path, {"x.c": both, "y.c": None}, {"x.c": fixed})
    assert found.changed == [9]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "linux"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / "x.c").write_bytes(OLD)
    commit(top, "base")
    git(top, "checkout", "-q", "-b", "work")
    (top / "x.c").write_bytes(OLD.replace(b"line 5\n", b"committed 5\n"))
    commit(top, "work")
    return top


def git(top: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=top, check=True)


def commit(top: Path, name: str) -> None:
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", name)


def test_a_work_tree_has_its_commits_and_what_is_not_committed(tree: Path) -> None:
    (tree / "x.c").write_bytes((tree / "x.c").read_bytes().replace(b"line 25\n", b"edited 25\n"))
    (tree / "new.c").write_text("int new;\n")
    (tree / "notes.txt").write_text("no source\n")
    found = {each.name: each.changed for each in since(tree, "main")}
    assert found == {"x.c": [5, 25], "new.c": [1]}


def test_the_base_is_where_the_branch_began(tree: Path) -> None:
    """What others have committed to the base since is no change of ours."""
    git(tree, "checkout", "-q", "main")
    (tree / "x.c").write_bytes(OLD.replace(b"line 28\n", b"theirs 28\n"))
    commit(tree, "theirs")
    git(tree, "checkout", "-q", "work")
    assert [each.changed for each in since(tree, "main")] == [[5]]


def test_an_unknown_commit_is_wrong_usage(tree: Path) -> None:
    with pytest.raises(UsageError, match="--since v9"):
        since(tree, "v9")

# SPDX-License-Identifier: GPL-2.0-only
"""A bisection of a small git history. A file of each commit says how the cases end there; git is real."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from run_records import run_record

from harness.commands import bisect
from harness.commands.bisect import Found, find_first_bad
from harness.commands.children import Ended, Task
from harness.errors import HarnessError, KernelBuildError, UsageError
from harness.progress import Event, Note
from harness.report.record import RunDirectory
from harness.run.options import Options
from harness.verdict import CaseRecord, RunRecord, Verdict

BROKEN = "does not build"


def record(verdict: Verdict) -> RunRecord:
    case = CaseRecord(id="test_a::test_x", area="a", title="t", verdict=verdict, reason="why", duration_s=1.0)
    return run_record(case)


def judged_by_the_checkout(
    tasks: Sequence[Task],
    jobs: int,
    on_end: Callable[[Task, Ended], None],
    on_tick: Callable[[Sequence[Task]], None] = lambda running: None,
) -> None:
    """Stand in for ``run_all``: the file ``ends`` of the commit is the verdict."""
    for task in tasks:
        ends = (Path(task.options.kernel or "") / "ends").read_text()
        if ends == BROKEN:
            on_end(task, Ended(1, 1.0, None, KernelBuildError("a.c:1: error")))
        else:
            found = record(Verdict(ends))
            RunDirectory(task.directory).write(found, {})
            on_end(task, Ended(0, 1.0, found))


def git(top: Path, *args: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *args], cwd=top, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a repository with a commit for each end."""
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(bisect, "run_all", judged_by_the_checkout)

    def make(*ends: str) -> Path:
        top = tmp_path / "linux"
        top.mkdir()
        git(top, "init", "--quiet", "--initial-branch=main")
        for number, end in enumerate(ends):
            (top / "ends").write_text(end)
            (top / "number").write_text(str(number))
            git(top, "add", ".")
            git(top, "commit", "--quiet", "-m", f"commit {number}")
            git(top, "tag", f"c{number}")
        return top

    return make


def state(top: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in top.rglob("*") if path.is_file()}


def search(top: Path, good: str, bad: str) -> tuple[Found, list[str]]:
    notes: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    return find_first_bad(top, (good, bad), Options(), emit), notes


def test_the_first_bad_commit_is_found_and_the_tree_left_alone(history: Callable[..., Path]) -> None:
    top = history("PASS", "PASS", "PASS", BROKEN, "PASS", "FAIL", "FAIL", "FAIL")
    before = state(top)
    found, notes = search(top, "c0", "c7")
    assert [commit.subject for commit in found.suspects] == ["commit 5"]
    assert found.exit_code == 0
    assert found.verdicts == record(Verdict.FAIL)
    assert any(": bad: 1 FAIL" in note for note in notes)
    assert "  test_a::test_x: FAIL\n      why\n" in str(found)
    assert f"  git bisect bad {git(top, 'rev-parse', 'c5')}\n" in str(found)
    assert state(top) == before


def test_neighbours_need_no_further_run(history: Callable[..., Path]) -> None:
    found, _ = search(history("PASS", "FAIL"), "c0", "c1")
    assert [commit.subject for commit in found.suspects] == ["commit 1"]
    assert found.exit_code == 0


def test_more_cases_run_on_the_first_bad_commit_and_before_it(history: Callable[..., Path]) -> None:
    top = history("PASS", "PASS", "FAIL", "FAIL")
    found = find_first_bad(top, ("c0", "c3"), Options(expression="one"), lambda event: None, Options(expression="two"))
    assert found.before == record(Verdict.PASS)
    assert found.verdicts == record(Verdict.FAIL)
    runs = {path.name for path in (found.directory / "more").iterdir()}
    assert runs == {git(top, "rev-parse", name) for name in ("c1", "c2")}


def test_commits_that_cannot_be_judged_stay_suspects(history: Callable[..., Path]) -> None:
    found, notes = search(history("PASS", BROKEN, BROKEN, "FAIL"), "c0", "c3")
    assert {commit.subject for commit in found.suspects} == {"commit 1", "commit 2", "commit 3"}
    assert found.suspects[0].subject == "commit 3"
    assert found.exit_code == 1
    assert any(": skip: a.c:1: error" in note for note in notes)


@pytest.mark.parametrize(
    ("ends", "complaint"),
    [
        (("FAIL", "FAIL"), "c0 should be good, and is bad: 1 FAIL"),
        (("PASS", "PASS"), "c1 should be bad, and is good: 1 PASS"),
        (("PASS", "SKIP"), "c1 should be bad, and is without a case that can be shown on it: 1 SKIP"),
        ((BROKEN, "FAIL"), "c0 cannot be judged: a.c:1: error"),
    ],
)
def test_ends_that_are_not_good_and_bad(history: Callable[..., Path], ends: tuple[str, str], complaint: str) -> None:
    found, _ = search(history(*ends), "c0", "c1")
    assert found.exit_code == 1
    assert f"not bisected: {complaint}" in str(found)


@pytest.mark.parametrize("ends", [("ERROR", "PASS", "FAIL"), ("PASS", "ERROR", "FAIL")])
def test_a_harness_error_ends_it_and_marks_no_commit(history: Callable[..., Path], ends: tuple[str, ...]) -> None:
    with pytest.raises(HarnessError, match="could not be judged: 1 ERROR"):
        search(history(*ends), "c0", "c2")


def test_a_killed_bisection_is_no_obstacle(history: Callable[..., Path], tmp_path: Path) -> None:
    top = history("PASS", "PASS", "ERROR", "FAIL", "FAIL")
    with pytest.raises(HarnessError):
        search(top, "c0", "c4")
    (checkout,) = (path.parent for path in (tmp_path / "cache" / "kernel" / "bisect").glob("linux-*/.git"))
    assert (checkout / ".git" / "BISECT_LOG").exists()
    (checkout / ".git" / "index.lock").touch()
    found, _ = search(top, "c0", "c1")
    assert "c1 should be bad" in str(found)


def test_no_such_commit(history: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="v1"):
        search(history("PASS", "FAIL"), "v1", "c1")

# SPDX-License-Identifier: GPL-2.0-only
"""Which searches a night makes for its new failures, and which case gets which commit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands import bisect, nightly_bisect
from harness.commands.bisect import Commit, Found
from harness.commands.nightly_bisect import MOST_CASES
from harness.commands.nightly_run import finish
from harness.errors import HarnessError
from harness.nightly.history import open_history
from harness.nightly.outcomes import load_night
from harness.nightly.record import CaseChange
from harness.nightly.running import RunningNight
from harness.progress import Note, PhaseProgress
from harness.run.options import Options
from harness.verdict import CaseRecord, GitRecord, KernelRecord, Verdict

GOOD, BAD = "a" * 40, "b" * 40
Search = Callable[[str, Sequence[str]], Found]


def case(name: str, verdict: Verdict) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="The rule.", verdict=verdict, reason="broken: x", duration_s=1.0)


@pytest.fixture
def two_nights(nights: Any, make_run: Any, tmp_path: Path) -> Callable[..., list[CaseChange]]:
    """End a good night on GOOD and a night on BAD with these cases broken; return the changes of the second."""

    def run(
        *broken: str,
        emit: Callable[[Any], None] = lambda event: None,
        left_s: float | None = None,
        suite: str = "default",
    ) -> Any:
        for day, commit, verdict in ((27, GOOD, Verdict.PASS), (28, BAD, Verdict.FAIL)):
            directory = nights.path.parent / f"2026-11-{day}"
            directory.mkdir()
            made = type(nights)(directory)
            git = GitRecord(url=str(tmp_path), ref="main", commit=commit)
            kernel = KernelRecord(release="7.3.0", origin="x", config_hash="0", git=git)
            cases = [case(name, verdict) for name in broken]
            ran = make_run(cases, more={"kernel": kernel})
            made.cell("c", ran, cases=broken, kernel=f"{tmp_path}@main={commit}", suite=suite)
            night = load_night(made.write()).model_copy(update={"night": directory.name})
            running = RunningNight(directory, night)
            finish(running, emit, left_s)
        return running.night.changes

    return run


def found(tmp_path: Path, make: Any, sha: str, *bad: str) -> Found:
    """Return the result of a search that blames a commit for these cases."""
    record = make.model_copy(update={"cases": [case(name, Verdict.FAIL) for name in bad]})
    (tmp_path / bisect.GIT_LOG).touch()
    return Found(tmp_path, [Commit(sha, "vfio: Break it")], record)


def test_cases_of_different_commits_get_their_own(
    nights: Any, two_nights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_record: Any
) -> None:
    searches: list[tuple[tuple[str, str], str | None]] = []

    def search(tree: Path, ends: tuple[str, str], options: Options, emit: Any, more: Options | None) -> Found:
        assert more is None  # each search judges all cases
        searches.append((ends, options.expression))
        return (
            found(tmp_path, a_record, "1" * 40, "f::one")
            if len(searches) == 1
            else found(tmp_path, a_record, "2" * 40, "f::two")
        )

    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", search)
    commits = {change.case: change.commit for change in two_nights("f::one", "f::two")}
    assert commits == {"f::one": f"{'1' * 40} vfio: Break it", "f::two": f"{'2' * 40} vfio: Break it"}
    assert searches == [((GOOD, BAD), "one or two"), ((GOOD, BAD), "two")]
    with open_history(nights.path.parent, lambda event: None) as history:
        named = {row.case: row.first_bad for row in history.verdicts(commits) if row.night == "2026-11-28"}
    assert named == commits


def test_many_new_failures_take_one_search(
    two_nights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a_record: Any
) -> None:
    names = [f"f::case{number}" for number in range(20)]
    asked: list[tuple[str | None, str | None]] = []

    def search(tree: Path, ends: Any, options: Options, emit: Any, more: Options | None) -> Found:
        asked.append((options.expression, more.expression if more else None))
        if len(asked) == 2:
            return Found(tmp_path, complaint="not this time")
        before = {name: Verdict.FAIL if name == "f::case19" else Verdict.PASS for name in names}
        return replace(
            found(tmp_path, a_record, "1" * 40, *names),
            before=a_record.model_copy(update={"cases": [case(name, verdict) for name, verdict in before.items()]}),
        )

    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", search)
    commits = {change.case: change.commit for change in two_nights(*names)}
    assert asked[0] == (
        " or ".join(f"case{number}" for number in range(MOST_CASES)),
        " or ".join(f"case{number}" for number in range(20)),
    )
    assert asked[1:] == [("case19", None)]  # it was bad before, too
    assert {name for name, commit in commits.items() if not commit} == {"f::case19"}


def test_a_search_that_fails_is_named_and_leaves_the_changes(two_nights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*args: Any) -> Found:
        raise HarnessError("v7.2 should be good, and is bad")

    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", search)
    events: list[Any] = []
    (change,) = two_nights("f::one", emit=events.append)
    assert (change.kind, change.commit) == ("broken", "")
    assert "c: not bisected: v7.2 should be good, and is bad" in [e.text for e in events if isinstance(e, Note)]


def test_a_search_ends_when_the_night_has_no_time_left(two_nights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(tree: Path, ends: Any, options: Any, emit: Any, more: Any) -> Found:
        while True:
            emit(PhaseProgress("bisect", "a step"))

    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", search)
    (change,) = two_nights("f::one", left_s=0.05)
    assert change.commit == ""


def test_the_next_night_still_names_the_commit(
    two_nights: Any, make_run: Any, nights: Any, monkeypatch: pytest.MonkeyPatch, a_record: Any
) -> None:
    """The page of each later night does, until the case has passed."""
    monkeypatch.setattr(
        nightly_bisect.bisect,
        "find_first_bad",
        lambda tree, ends, options, emit, more: found(nights.path.parent, a_record, BAD, "f::one"),
    )
    two_nights("f::one")
    shown = []
    for day, verdict in enumerate((Verdict.FAIL, Verdict.PASS, Verdict.FAIL, Verdict.FAIL), 1):
        directory = nights.path.parent / f"2026-12-{day:02}"
        directory.mkdir()
        made = type(nights)(directory)
        made.cell("c", make_run([case("f::one", verdict)]), cases=["f::one"])
        dated = {"night": directory.name, "started": f"{directory.name}T00:00:00+00:00"}
        night = load_night(made.write()).model_copy(update=dated)
        finish(RunningNight(directory, night), lambda event: None)
        shown.append(f"<code>{BAD} vfio: Break it</code>" in (directory / "index.html").read_text())
    assert shown == [True, False, False, False]


def test_failures_of_kvm_test_are_not_searched(two_nights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", lambda *args: pytest.fail("searched"))
    (change,) = two_nights("f::one", suite="kvm-test")
    assert (change.kind, change.commit) == ("broken", "")


def test_a_kernel_without_git_is_not_searched(nights: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly_bisect.bisect, "find_first_bad", lambda *args: pytest.fail("searched"))
    for day, verdict in ((27, Verdict.PASS), (28, Verdict.FAIL)):
        directory = nights.path.parent / f"2026-11-{day}"
        directory.mkdir()
        made = type(nights)(directory)
        made.cell("c", make_run([case("f::one", verdict)]), cases=["f::one"])
        night = load_night(made.write()).model_copy(update={"night": directory.name})
        finish(RunningNight(directory, night), lambda event: None)

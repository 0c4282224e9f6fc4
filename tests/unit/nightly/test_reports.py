# SPDX-License-Identifier: GPL-2.0-only
"""The reports of nights that follow each other, as the end of a night writes them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import nightly_run
from harness.commands.nightly_run import finish
from harness.nightly.database import FILE as HISTORY
from harness.nightly.history import open_history
from harness.nightly.outcomes import load_night
from harness.nightly.running import RunningNight
from harness.progress import Note, silent
from harness.report import record
from harness.verdict import CaseRecord, Verdict

EndNight = Callable[[int, Verdict], tuple[Path, list[object]]]


def case(name: str, verdict: Verdict = Verdict.PASS, reason: str = "") -> CaseRecord:
    return CaseRecord(id=name, area="a", title="The rule.", verdict=verdict, reason=reason, duration_s=1.0)


def test_a_mail_is_written_only_where_something_changed(nights: Any, make_run: Any) -> None:
    def night(name: str, *cases: CaseRecord) -> Path:
        directory: Path = nights.path.parent / name
        directory.mkdir(exist_ok=True)
        made = type(nights)(directory)
        made.cell("c", make_run(cases), cases=[each.id for each in cases])
        made.write()
        finish(RunningNight(directory, load_night(directory)), silent)
        assert {"junit.xml", "report.ktap", "kcidb.json"} <= {path.name for path in directory.iterdir()}
        return directory / "mail.txt"

    good, bad = case("f::a"), case("f::a", Verdict.FAIL, "broken: it is live")
    assert not night("2026-11-25", good, case("f::b")).exists()
    assert "Subject: [REGRESSION] vfio dma-buf: FAIL: The rule." in night("2026-11-26", bad, case("f::b")).read_text()
    assert not night("2026-11-27", bad, case("f::b")).exists(), "nothing new"
    deleted = night("2026-11-28", case("f::b")).read_text()
    assert "f::a in c: FAIL -> MISS" in deleted
    assert "Fixed" not in deleted


def test_a_report_that_cannot_be_written_does_not_stop_the_others(nights: Any, make_run: Any) -> None:
    nights.cell("c", make_run([case("f::a")]), cases=["f::a"])
    directory = nights.write()
    (directory / "junit.xml").mkdir()
    events: list[Any] = []
    finish(RunningNight(directory, load_night(directory)), events.append)
    (note,) = [event for event in events if isinstance(event, Note)]
    assert "write_merged" in note.text
    assert (directory / "kcidb.json").exists()


@pytest.mark.parametrize("old", ["mail.txt", "kcidb.json"])
def test_a_night_that_goes_on_writes_its_reports_again(nights: Any, make_run: Any, old: str) -> None:
    nights.cell("c", make_run([case("f::a")]), cases=["f::a"])
    directory = nights.write()
    (directory / old).write_text("old")
    finish(RunningNight(directory, load_night(directory)), silent)
    assert not (directory / old).exists() or (directory / old).read_text() != "old"


def test_the_page_names_slower_cases_and_overdue_known_issues(
    nights: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = SimpleNamespace(id="some-bug", title="A rule is broken", review_by="7.3")
    monkeypatch.setattr(nightly_run, "overdue", lambda today, release: [issue] if release == "7.3.0-rc4" else [])

    def page(day: int, seconds: float) -> str:
        directory: Path = nights.path.parent / f"2026-11-{day}"
        directory.mkdir(exist_ok=True)
        made = type(nights)(directory)
        made.cell("c", make_run([case("a::one").model_copy(update={"duration_s": seconds})]), cases=["a::one"])
        written = load_night(made.write()).model_copy(update={"night": directory.name})
        finish(RunningNight(directory, written), silent)
        return (directory / "index.html").read_text()

    pages = [page(day, seconds) for day, seconds in ((26, 1.0), (27, 1.0), (28, 1.0), (29, 30.0))]
    assert ["usually 1.0 s" in text for text in pages] == [False, False, False, True]
    assert "some-bug: A rule is broken; review by 7.3" in pages[-1]


@pytest.fixture
def end_night(nights: Any, make_run: Any) -> EndNight:
    """Return a function that ends a night of one case, and returns its directory and what was emitted."""

    def end(day: int, verdict: Verdict) -> tuple[Path, list[Any]]:
        directory: Path = nights.path.parent / f"2026-11-{day}"
        directory.mkdir(exist_ok=True)
        made = type(nights)(directory)
        made.cell("c", make_run([case("f::a", verdict)]), cases=["f::a"])
        written = load_night(made.write()).model_copy(update={"night": directory.name})
        events: list[Any] = []
        finish(RunningNight(directory, written), events.append)
        return directory, events

    return end


def test_each_record_is_read_once(end_night: EndNight, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def read_record(file: Path, *args: Any, **more: Any) -> Any:
        read.append("/".join(file.parts[-5:]))
        return original(file, *args, **more)

    end_night(26, Verdict.PASS)
    original = record.read_record
    monkeypatch.setattr(record, "read_record", read_record)
    directory, events = end_night(27, Verdict.FAIL)
    assert read == ["2026-11-27/cells/c/1/report.json"], "neither another reader, nor an earlier night"
    assert [change.kind for change in load_night(directory).changes] == ["broken"]
    assert events == []
    with open_history(directory.parent, events.append) as history:
        assert {row.verdict for row in history.verdicts(["f::a"])} == {"FAIL", "PASS"}
    assert events == [], "the night is in the history already"


def test_without_a_history_the_records_of_earlier_nights_are_compared(end_night: EndNight) -> None:
    directory, _ = end_night(26, Verdict.PASS)
    (directory.parent / HISTORY).unlink()
    (directory.parent / HISTORY).mkdir()
    directory, events = end_night(27, Verdict.FAIL)
    assert [change.kind for change in load_night(directory).changes] == ["broken"]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert [note.partition(": ")[0] for note in notes] == ["history", "write_history"]
    assert (directory / "mail.txt").exists()

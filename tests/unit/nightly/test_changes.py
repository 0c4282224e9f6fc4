# SPDX-License-Identifier: GPL-2.0-only
"""Changes of a night: broken, fixed, missing, new and other, and silence when nothing has changed."""

from pathlib import Path

import pytest
from made_nights import Nights, Runs, case_record, cell, run_record

from harness.nightly.cells import NightVerdicts
from harness.nightly.changes import changes_of
from harness.nightly.history import open_history
from harness.nightly.outcomes import earlier_nights, night_directories
from harness.nightly.past import LOOK_BACK, PastNights, recorded_nights
from harness.nightly.record import CaseChange, Why
from harness.progress import silent

CASE = "test_f::test_c"
BAD = ("FAIL", "SPLAT", "HANG", "CRASH")


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "nightly")


def changes(directory: Path) -> list[CaseChange]:
    """Return the changes of a night. The history of the earlier nights and their records must agree."""
    verdicts = NightVerdicts.read(directory)
    recorded = recorded_nights(verdicts.night.plan, earlier_nights(directory))
    with open_history(directory.parent, silent, besides=directory.name) as history:
        found = changes_of(verdicts, PastNights(history.nights_before(verdicts.night)))
    assert found == changes_of(verdicts, PastNights(recorded))
    return found


def history_of(nights: Nights, *cells: Runs | None) -> list[CaseChange]:
    """Write a night for each cell (None: a night whose plan has another cell), and return the changes of the last."""
    for number, made in enumerate(cells, 1):
        _, directory = nights.write(f"2026-01-{number:02}", made or cell({CASE: "PASS"}, name="other"))
    return [change for change in changes(directory) if change.cell == "a"]


def verdicts(nights: Nights, *words: str) -> list[tuple[str, str, str]]:
    """Return (kind, before, after) of the last of these nights. A word is a verdict; ``-``: the cell has not run."""
    runs = [Runs(planned=[CASE]) if word == "-" else cell({CASE: word}) for word in words]
    return [(change.kind, change.before, change.after) for change in history_of(nights, *runs)]


@pytest.mark.parametrize(
    ("words", "kind", "before"),
    [
        *((f"{good} {bad}", "broken", good) for good in ("PASS", "KNOWN", "FIXED", "SKIP") for bad in BAD),
        *((f"{bad} {good}", "fixed", bad) for bad in (*BAD, "KNOWN") for good in ("PASS", "FIXED")),
        *((f"{was} {now}", "missing", was) for was in ("PASS", "KNOWN", *BAD) for now in ("SKIP", "ERROR", "-")),
        ("SKIP ERROR", "missing", "SKIP"),
        ("SKIP PASS", "other", "SKIP"),
        ("PASS KNOWN", "other", "PASS"),
        ("FAIL KNOWN", "other", "FAIL"),
        ("FAIL SPLAT", "other", "FAIL"),
        # What was not judged between two nights hides no change, and is none when it is back.
        ("PASS ERROR FAIL", "broken", "PASS"),
        ("PASS - - FAIL", "broken", "PASS"),
        ("FAIL - PASS", "fixed", "FAIL"),
        ("PASS - ERROR", "missing", "PASS"),
        ("- FAIL", "new", ""),
        ("- PASS", "new", ""),
        ("- ERROR", "new", ""),
    ],
)
def test_kind_of_a_change(nights: Nights, words: str, kind: str, before: str) -> None:
    after = words.rsplit(maxsplit=1)[-1].replace("-", "MISS")
    assert verdicts(nights, *words.split()) == [(kind, before, after)]


@pytest.mark.parametrize(
    "words",
    [
        *(f"{word} {word}" for word in ("PASS", "FAIL", "KNOWN", "SKIP", "ERROR", "-")),
        "PASS FIXED",
        "PASS ERROR PASS",
        "FAIL - FAIL",
        "PASS - -",
        "PASS ERROR ERROR",
        "PASS",
        "FAIL",
        "-",
    ],
)
def test_a_night_without_news_has_no_change(nights: Nights, words: str) -> None:
    assert verdicts(nights, *words.split()) == []


@pytest.mark.parametrize("was", ["PASS", "FAIL"])
def test_a_deleted_case_is_missing_once_and_never_fixed(nights: Nights, was: str) -> None:
    both, one = {CASE: was, "test_f::test_d": "PASS"}, {"test_f::test_d": "PASS"}
    (change,) = history_of(nights, cell(both), cell(one))
    assert (change.kind, change.case, change.before, change.after) == ("missing", CASE, was, "MISS")
    assert change.reason == "the cell no longer has the case"
    assert history_of(nights, cell(both), cell(one), cell(one)) == []


def test_a_deleted_cell_is_missing(nights: Nights) -> None:
    (change,) = history_of(nights, cell({CASE: "FAIL"}), None)
    assert (change.kind, change.before, change.after) == ("missing", "FAIL", "MISS")
    assert change.reason == "the plan no longer has the cell"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([], "the cell has not run"),
        ([(Why.PLAN, None)], "the host was lost"),
        ([(Why.PLAN, run_record([]))], "the run of cells/a/1 has not judged it"),
    ],
)
def test_a_case_that_no_run_judged_says_why(nights: Nights, runs: list, reason: str) -> None:
    lost = Runs(planned=[CASE], runs=runs, error="the host was lost")
    (change,) = history_of(nights, cell({CASE: "PASS"}), lost)
    assert (change.kind, change.reason) == ("missing", reason)


def test_a_record_that_cannot_be_read_judges_nothing(nights: Nights) -> None:
    nights.write("2026-01-01", cell({CASE: "FAIL"}))
    _, directory = nights.write("2026-01-02", cell({CASE: "PASS"}))
    (directory / "cells/a/1/report.json").write_text('{"schema": "vfio-harness/report/1", ')
    (change,) = changes(directory)
    assert (change.kind, change.after) == ("missing", "MISS")


def test_an_earlier_night_that_cannot_be_read_is_passed_over(nights: Nights) -> None:
    nights.write("2026-01-01", cell({CASE: "PASS"}))
    _, broken = nights.write("2026-01-02", cell({CASE: "FAIL"}))
    (broken / "nightly.json").write_text("\0")
    _, directory = nights.write("2026-01-03", cell({CASE: "FAIL"}))
    (change,) = changes(directory)
    assert (change.kind, change.before) == ("broken", "PASS")


def test_nights_of_another_plan_are_not_compared(nights: Nights) -> None:
    nights.write("2026-01-01", cell({CASE: "FAIL"}))
    nights.write("2026-01-02", cell({"test_f::test_other": "PASS"}), plan="another.yaml")
    _, directory = nights.write("2026-01-03", cell({CASE: "PASS"}))
    assert [change.kind for change in changes(directory)] == ["fixed"]


def test_a_renamed_case_is_compared_with_its_old_id(nights: Nights) -> None:
    was, now = "test_told::test_told_once[rxe]", "test_notify::test_notify_once[rxe]"
    (change,) = history_of(nights, cell({was: "PASS"}), cell({now: "FAIL"}))
    assert (change.kind, change.case, change.before) == ("broken", now, "PASS")


@pytest.mark.parametrize(
    ("runs", "verdict", "rate"),
    [
        ([(Why.PLAN, "ERROR"), (Why.AGAIN, "FAIL")], "FAIL", ""),
        ([(Why.PLAN, "ERROR"), (Why.AGAIN, "ERROR")], "ERROR", ""),
        ([(Why.PLAN, "FAIL"), (Why.AGAIN, "PASS")], "FAIL", ""),
        ([(Why.PLAN, None), (Why.PLAN, "HANG")], "HANG", ""),
        ([(Why.PLAN, "FAIL"), (Why.PLAN, "CRASH")], "CRASH", ""),
        ([(Why.PLAN, "FAIL"), (Why.RATE, "PASS"), (Why.RATE, "SPLAT"), (Why.RATE, "PASS")], "FAIL", "1 of 3"),
        ([(Why.PLAN, "FAIL"), (Why.RATE, "PASS"), (Why.RATE, "ERROR")], "FAIL", "0 of 1"),
        ([(Why.PLAN, "FAIL"), (Why.RATE, "ERROR")], "FAIL", ""),
    ],
)
def test_which_run_decides(nights: Nights, runs: list, verdict: str, rate: str) -> None:
    made = Runs(runs=[(why, run_record([case_record(CASE, word)]) if word else None) for why, word in runs])
    (change,) = history_of(nights, cell({CASE: "PASS"}), made)
    assert (change.after, change.rate) == (verdict, rate)


WARN = "WARNING: drivers/vfio/pci/x.c:{line} at {function}+0x3e/0x50\n---[ end trace 0000000000000000 ]---"


def test_another_splat_is_a_change_and_the_same_one_on_another_line_is_none(nights: Nights) -> None:
    def splat(line: int, function: str) -> Runs:
        text = WARN.format(line=line, function=function)
        return Runs(runs=[(Why.PLAN, run_record([case_record(CASE, "SPLAT", splat=text)]))])

    assert history_of(nights, splat(1, "vfio_move"), splat(9, "vfio_move")) == []
    (change,) = history_of(nights, splat(1, "vfio_move"), splat(1, "vfio_cleanup"))
    assert (change.kind, change.fingerprint) == ("other", "warning: vfio_cleanup")


def test_a_bad_case_names_the_last_night_in_which_it_passed(nights: Nights) -> None:
    words = ("PASS", "PASS", "FAIL", "ERROR", "SPLAT")
    (change,) = history_of(nights, *(cell({CASE: word}) for word in words))
    assert (change.kind, change.last_good) == ("other", "2026-01-02")


def test_the_reason_of_the_verdict_is_kept(nights: Nights) -> None:
    (change,) = history_of(nights, cell({CASE: "PASS"}), cell({CASE: "FAIL"}))
    assert change.reason == "the reason of FAIL"


def test_no_more_nights_are_read_than_the_answer_needs(nights: Nights) -> None:
    """An old night is read only for a case that the last one has not judged."""
    nights.write("2026-01-01", cell({CASE: "PASS"}))
    nights.write("2026-01-02", cell({CASE: "PASS"}))
    night, directory = nights.write("2026-01-03", cell({CASE: "FAIL"}))
    asked = []
    earlier = (asked.append(path.name) or path for path in earlier_nights(directory))
    past = PastNights(recorded_nights(night.plan, earlier))
    assert [change.last_good for change in changes_of(NightVerdicts.read(directory), past)] == ["2026-01-02"]
    assert asked == ["2026-01-02"]


def test_a_case_that_no_recent_night_judged_is_new(nights: Nights) -> None:
    nights.write("2025-12-31", cell({CASE: "PASS"}))
    for number in range(LOOK_BACK):
        nights.write(f"2026-01-01-{number}", Runs(planned=[CASE]))
    _, directory = nights.write("2026-01-02", cell({CASE: "FAIL"}))
    assert [change.kind for change in changes(directory)] == ["new"]


def test_nights_are_sorted_by_date_and_number_and_latest_is_none(nights: Nights) -> None:
    names = ["2026-01-09", "2026-01-10", "2026-01-10-2", "2026-01-10-10", "2026-02-01"]
    for name in names:
        _, directory = nights.write(name)
    (nights.directory / "latest").symlink_to(directory.name)
    assert [path.name for path in night_directories(nights.directory)] == names[::-1]
    assert [path.name for path in earlier_nights(nights.directory / "2026-01-10-10")] == names[2::-1]

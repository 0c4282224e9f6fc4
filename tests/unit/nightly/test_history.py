# SPDX-License-Identifier: GPL-2.0-only
"""The history in a real SQLite file: what it answers, files that cannot be used, and two processes that write."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_nights import Nights, Runs, case_record, cell, run_record

from harness.errors import HarnessError
from harness.nightly.database import FILE, KEPT, VERSION, Database
from harness.nightly.history import open_history
from harness.nightly.outcomes import night_directories
from harness.nightly.record import Night, Why
from harness.progress import Event, Note, silent
from harness.verdict import GitRecord

CASE, OTHER = "test_f::test_c", "test_f::test_d"


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "nightly")


def asked(made: Nights, case: str = CASE, **how: object) -> list[tuple[str, str, str, str]]:
    with open_history(made.directory, silent) as history:
        return [(s.night, s.cell, s.verdict, s.rate) for s in history.verdicts([case], **how)]


def dump(nights: Nights) -> list[str]:
    with open_history(nights.directory, silent):
        pass
    with sqlite3.connect(nights.directory / FILE) as connection:
        return sorted(line for line in connection.iterdump() if not line.startswith('INSERT INTO "nights"'))


def notes(nights: Nights) -> list[str]:
    told: list[Event] = []
    with open_history(nights.directory, told.append):
        return [event.text for event in told if isinstance(event, Note)]


def kept(nights: Nights) -> list[Path]:
    return sorted(path for path in nights.directory.glob(f"{FILE}.bad-*") if not path.name.endswith(("-wal", "-shm")))


def two_nights(nights: Nights) -> None:
    nights.write("2026-01-01", cell({CASE: "PASS", OTHER: "SKIP"}), cell({CASE: "PASS"}, name="b"))
    nights.write("2026-01-02", cell({CASE: "FAIL", OTHER: "SKIP"}, release="7.3.4"), Runs("b", planned=[CASE]))


def test_history_of_a_case_newest_night_first(nights: Nights) -> None:
    two_nights(nights)
    assert asked(nights) == [
        ("2026-01-02", "a", "FAIL", ""),
        ("2026-01-02", "b", "MISS", ""),
        ("2026-01-01", "a", "PASS", ""),
        ("2026-01-01", "b", "PASS", ""),
    ]
    assert asked(nights, cell="b", nights=1) == [("2026-01-02", "b", "MISS", "")]
    assert asked(nights, case="test_f") == []


def test_a_row_has_what_the_record_says(nights: Nights) -> None:
    splat = "WARNING: x.c:7 at vfio_move+0x3e/0x50\n---[ end trace 0 ]---"
    record = case_record(CASE, "SPLAT", splat=splat, seconds=2.5).model_copy(update={"seed": 2**64})
    nights.write("2026-01-01", Runs(runs=[(Why.PLAN, run_record([record]))]))
    with open_history(nights.directory, silent) as history:
        (shown,) = history.verdicts([CASE])
    assert (shown.reason, shown.seconds, shown.seed) == ("the reason of SPLAT", 2.5, str(2**64))
    assert (shown.fingerprint, shown.kernel.release, shown.kernel.origin) == (
        "warning: vfio_move",
        "7.2.12",
        "debian:7.2.12",
    )
    assert shown.directory == nights.directory / "2026-01-01" / "cells/a/1"


@pytest.mark.parametrize(("dirty", "commit"), [(False, "a" * 40), (True, "")])
def test_a_kernel_of_a_clean_commit_is_that_commit(nights: Nights, dirty: bool, commit: str) -> None:
    made = run_record([case_record(CASE, "PASS")])
    git = GitRecord(url="u", commit="a" * 40, dirty=dirty)
    record = made.model_copy(update={"kernel": made.kernel.model_copy(update={"git": git})})
    nights.write("2026-01-01", Runs(runs=[(Why.PLAN, record)]))
    with open_history(nights.directory, silent) as history:
        assert [row.kernel.commit for row in history.verdicts([CASE])] == [commit]


def test_a_renamed_case_has_one_history(nights: Nights) -> None:
    was, now = "test_told::test_told_once[rxe]", "test_notify::test_notify_once[rxe]"
    nights.write("2026-01-01", cell({was: "PASS"}))
    nights.write("2026-01-02", cell({now: "FAIL"}))
    assert [row[0] for row in asked(nights, case=now)] == ["2026-01-02", "2026-01-01"]


def test_an_error_and_its_second_run_both_stay_and_the_second_decides(nights: Nights) -> None:
    runs = [(Why.PLAN, "ERROR"), (Why.AGAIN, "FAIL"), (Why.RATE, "PASS"), (Why.RATE, "FAIL"), (Why.RATE, "ERROR")]
    made = [(why, run_record([case_record(CASE, word)])) for why, word in runs]
    nights.write("2026-01-01", Runs(runs=made))
    assert asked(nights) == [("2026-01-01", "a", "FAIL", "1 of 2")]
    with sqlite3.connect(nights.directory / FILE) as connection:
        assert connection.execute("SELECT count(*) FROM cases").fetchone() == (5,)


def test_adding_a_night_twice_changes_nothing(nights: Nights) -> None:
    two_nights(nights)
    before = dump(nights)
    for path in night_directories(nights.directory):
        os.utime(path / "nightly.json")  # looks new
    after = dump(nights)
    assert [line.partition("VALUES")[0] for line in after] == [line.partition("VALUES")[0] for line in before]
    assert len(asked(nights)) == 4


def test_a_night_that_goes_on_is_followed(nights: Nights) -> None:
    nights.write("2026-01-01", Runs(planned=[CASE]), ended=None)
    assert asked(nights) == [("2026-01-01", "a", "MISS", "")]
    nights.write("2026-01-01", cell({CASE: "PASS"}))
    assert asked(nights) == [("2026-01-01", "a", "PASS", "")]


def test_a_night_whose_records_are_pruned_stays(nights: Nights) -> None:
    two_nights(nights)
    before = asked(nights)
    for path in night_directories(nights.directory):
        (path / "nightly.json").unlink()
    assert asked(nights) == before


def test_a_night_that_cannot_be_read_is_named(nights: Nights) -> None:
    two_nights(nights)
    (nights.directory / "2026-01-02" / "nightly.json").write_text("{}")
    (note,) = notes(nights)
    assert "2026-01-02/nightly.json: schema: this field is missing; the file is damaged" in note
    assert note.endswith(": this night is not in the history")


@pytest.mark.parametrize(
    ("words", "verdicts", "rate"),
    [
        (["PASS", "FAIL", "PASS"], {"PASS": 2, "FAIL": 1}, "1 of 3"),
        (["FAIL", "HANG"], {"FAIL": 1, "HANG": 1}, "2 of 2"),
        (["PASS", "ERROR", "FAIL"], {"ERROR": 1, "FAIL": 1, "PASS": 1}, "1 of 2"),
        (["PASS", "ERROR"], {"ERROR": 1, "PASS": 1}, "0 of 1"),
        (["KNOWN", "PASS"], {"KNOWN": 1, "PASS": 1}, "1 of 2"),
    ],
)
def test_a_case_with_different_verdicts_on_one_kernel_is_a_flake(
    nights: Nights, words: list[str], verdicts: dict[str, int], rate: str
) -> None:
    for number, word in enumerate(words, 1):
        nights.write(f"2026-01-{number:02}", cell({CASE: word, OTHER: "PASS"}))
    with open_history(nights.directory, silent) as history:
        (flake,) = history.flakes()
    assert (flake.case, flake.cell, flake.verdicts, flake.rate) == (CASE, "a", verdicts, rate)


def test_repetitions_show_a_flake_within_one_night(nights: Nights) -> None:
    runs = [(why, run_record([case_record(CASE, w)])) for why, w in [(Why.PLAN, "FAIL"), (Why.RATE, "PASS")]]
    nights.write("2026-01-01", Runs(runs=runs))
    with open_history(nights.directory, silent) as history:
        assert [flake.rate for flake in history.flakes()] == ["1 of 2"]


def test_no_flake_on_different_kernels_or_in_different_cells_or_long_ago(nights: Nights) -> None:
    nights.write("2026-01-01", cell({CASE: "FAIL"}))
    nights.write("2026-01-02", cell({CASE: "PASS"}))
    nights.write("2026-01-03", cell({CASE: "FAIL"}, release="7.3.4"), cell({CASE: "PASS"}, "b", release="7.3.4"))
    nights.write("2026-01-04", cell({CASE: "FAIL"}, release="7.3.4"), Runs("b", planned=[CASE]))
    with open_history(nights.directory, silent) as history:
        assert history.flakes(nights=3) == []
        assert [flake.kernel.release for flake in history.flakes()] == ["7.2.12"]


def test_durations_are_the_median_of_the_latest_runs(nights: Nights) -> None:
    for number, seconds in enumerate([100.0, 1.0, 2.0, 3.0, 50.0, 4.0], 1):
        nights.write(
            f"2026-01-{number:02}", Runs(runs=[(Why.PLAN, run_record([case_record(CASE, "PASS", "", seconds)]))])
        )
    with open_history(nights.directory, silent) as history:
        assert history.durations("a") == {CASE: 3.0}
        assert history.expected_seconds() == {"a": 9.0}
        assert history.durations("nowhere") == {}


def test_last_good_night(nights: Nights) -> None:
    for number, word in enumerate(["PASS", "FIXED", "FAIL", "ERROR"], 1):
        nights.write(f"2026-01-{number:02}", cell({CASE: word}))
    with open_history(nights.directory, silent) as history:
        good = history.last_good_night("a", CASE)
        assert good is not None
        assert (good.night, good.directory) == ("2026-01-02", nights.directory / "2026-01-02/cells/a/1")
        earlier = history.last_good_night("a", CASE, before="2026-01-02")
        assert earlier is not None
        assert earlier.night == "2026-01-01"
        assert history.last_good_night("a", CASE, before="2026-01-01") is None
        assert history.last_good_night("a", "test_f::test_never") is None


def overwrite(file: Path, at: int, what: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(what)


@contextmanager
def closed(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(file)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def damage(file: Path, how: str) -> None:
    match how:
        case "text":
            file.write_text("not a database at all" * 100)
        case "header":
            overwrite(file, 0, b"\0" * 64)
        case "truncated":
            os.truncate(file, file.stat().st_size // 2)
        case "page":
            overwrite(file, 4096, os.urandom(file.stat().st_size - 4096))
        case "older schema":
            with closed(file) as connection:
                connection.execute(f"PRAGMA user_version = {VERSION - 1}")
        case "newer schema":
            with closed(file) as connection:
                connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        case "another program":
            file.unlink()
            with closed(file) as connection:
                connection.execute("CREATE TABLE bookmarks (a)")
        case "lost table":
            with closed(file) as connection:
                connection.execute("DROP TABLE cases")


DAMAGES = ["text", "header", "truncated", "page", "older schema", "newer schema", "another program", "lost table"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_file_that_cannot_be_used_is_kept_rebuilt_and_reported(nights: Nights, how: str) -> None:
    two_nights(nights)
    before = asked(nights)
    file = nights.directory / FILE
    damage(file, how)
    bad = file.read_bytes()
    told: list[Event] = []
    with open_history(nights.directory, told.append) as history:
        assert [(s.night, s.cell, s.verdict, s.rate) for s in history.verdicts([CASE])] == before
    why, where, what = (event.text for event in told if isinstance(event, Note))
    (backup,) = kept(nights)
    assert why.startswith("the history cannot be used: ")
    assert where == f"it is kept as {backup}"
    assert what.startswith("a new one is made from the records")
    if how != "lost table":  # which SQLite checks into the file when it is closed
        assert backup.read_bytes() == bad
    assert notes(nights) == []


def test_a_missing_file_is_made_from_the_records(nights: Nights) -> None:
    two_nights(nights)
    before = asked(nights)
    (nights.directory / FILE).unlink()
    assert notes(nights) == []
    assert asked(nights) == before


def test_a_file_that_is_damaged_while_it_is_open_is_rebuilt(nights: Nights) -> None:
    two_nights(nights)
    before = asked(nights)
    with open_history(nights.directory, silent) as history:
        overwrite(nights.directory / FILE, 0, os.urandom((nights.directory / FILE).stat().st_size))
        assert [(s.night, s.cell, s.verdict, s.rate) for s in history.verdicts([CASE])] == before
    assert len(kept(nights)) == 1


def test_a_file_that_another_process_has_replaced_is_not_set_aside(nights: Nights) -> None:
    two_nights(nights)
    file = nights.directory / FILE
    asked(nights)
    with open_history(nights.directory, silent) as one:
        overwrite(file, 0, os.urandom(file.stat().st_size))
        with open_history(nights.directory, silent) as other:
            assert len(other.verdicts([CASE])) == len(one.verdicts([CASE])) == 4
    assert len(kept(nights)) == 1


def test_the_latest_backups_are_kept(nights: Nights) -> None:
    two_nights(nights)
    for number in range(KEPT + 2):
        asked(nights)
        (nights.directory / FILE).write_text(f"bad {number}")
        (nights.directory / f"{FILE}-wal").write_text("log")
    *_, removed = notes(nights)
    assert removed.endswith(f": the latest {KEPT} such files are kept")
    assert {path.read_text() for path in kept(nights)} == {f"bad {number}" for number in range(2, KEPT + 2)}
    assert len(list(nights.directory.glob(f"{FILE}.bad-*-wal"))) <= KEPT


def test_an_interrupted_rebuild_is_finished_by_the_next(nights: Nights) -> None:
    two_nights(nights)
    with pytest.raises(KeyboardInterrupt):
        Database(nights.directory / FILE, silent, interrupted)
    assert len(asked(nights)) == 4


def interrupted(database: Database) -> None:
    raise KeyboardInterrupt


def test_a_transaction_that_fails_leaves_nothing(nights: Nights) -> None:
    two_nights(nights)
    before = dump(nights)
    night = Night.model_validate_json((nights.directory / "2026-01-02/nightly.json").read_text())
    with open_history(nights.directory, silent) as history, pytest.raises(AttributeError):
        history.add(night, {"cells/a/1": "no record"})
    assert dump(nights) == before


def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(nights: Nights) -> None:
    (nights.directory / FILE).mkdir(parents=True)
    with pytest.raises(HarnessError, match=r"history\.sqlite: unable to open database file"):
        asked(nights)
    assert kept(nights) == []


WRITER = """
import sys
from pathlib import Path
from harness.nightly.history import open_history
from harness.progress import silent
nightly = Path(sys.argv[1])
(nightly / f"ready-{sys.argv[2]}").touch()
while not (nightly / "go").exists():
    pass
with open_history(nightly, silent) as history:
    print(len(history.verdicts(["test_f::test_c"])))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_write_at_once(nights: Nights, damaged: bool) -> None:
    """Both find the same nights to add, and a file that cannot be used. Each night is there once."""
    for number in range(1, 13):
        nights.write(f"2026-01-{number:02}", cell({CASE: "PASS", OTHER: "FAIL"}))
    if damaged:
        (nights.directory / FILE).write_text("bad")
    command = [sys.executable, "-c", WRITER, str(nights.directory)]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for name in "ab"]
    deadline = time.monotonic() + 60
    while len(list(nights.directory.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline
        assert all(writer.poll() is None for writer in writers)
    (nights.directory / "go").touch()
    assert [(writer.communicate(timeout=60), writer.returncode) for writer in writers] == [((b"12\n", b""), 0)] * 2
    with sqlite3.connect(nights.directory / FILE) as connection:
        assert connection.execute("SELECT count(*) FROM cases").fetchone() == (24,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(kept(nights)) == damaged

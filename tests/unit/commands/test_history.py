# SPDX-License-Identifier: GPL-2.0-only
"""``history`` and ``flakes``: what they print, and what they say of a wrong case or cell."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_nights import Nights, Runs, case_record, cell, run_record

from harness.cli import cli
from harness.commands.history import cases_named
from harness.errors import UsageError
from harness.nightly.database import FILE
from harness.nightly.record import Why

CASE = "test_f::test_c[rxe]"


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    """Two nights: a case passes in both cells, then fails in one, 1 of 2 times, and is missed in the other."""
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path))
    made = Nights(tmp_path / "nightly")
    made.write("2026-01-01", cell({CASE: "PASS", "test_f::test_d": "SKIP"}), cell({CASE: "PASS"}, name="long-cell"))
    runs = [(why, run_record([case_record(CASE, w)])) for why, w in
            [(Why.PLAN, "FAIL"), (Why.RATE, "PASS"), (Why.RATE, "HANG")]]  # fmt: skip
    made.write("2026-01-02", Runs(runs=runs), Runs("long-cell", planned=[CASE]))
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


def test_history_lists_each_night_and_cell_and_names_the_last_good_night(nights: Nights) -> None:
    assert run("history", "test_c").stdout.splitlines() == [
        CASE,
        "  2026-01-02  a          7.2.12  FAIL   1 of 2  the reason of FAIL",
        "  2026-01-02  long-cell          MISS   the cell has not run",
        "  2026-01-01  a          7.2.12  PASS",
        "  2026-01-01  long-cell  7.2.12  PASS",
        "  a: passed last in 2026-01-01, on 7.2.12",
        f"      vfio-harness compare {nights.directory}/2026-01-01/cells/a/1 {nights.directory}/2026-01-02/cells/a/1",
    ]


def test_the_comparison_that_history_names_runs(nights: Nights) -> None:
    words = run("history", CASE).stdout.splitlines()[-1].split()
    result = run(*words[1:])
    assert result.exit_code == 1
    assert "broken: 1" in result.stdout


def test_a_case_that_never_passed_says_so(nights: Nights) -> None:
    nights.write("2026-01-03", cell({"test_f::test_new": "CRASH"}))
    assert run("history", "test_new").stdout.splitlines()[-1] == "  a: no night in which it passed"


def test_a_reason_is_repeated_only_if_it_changes(nights: Nights) -> None:
    reasons = {"03": "seen: 0x1f at 2.5 s", "04": "seen: 0x2e at 10 s", "05": "another"}
    for day, reason in reasons.items():
        bad = case_record("test_f::test_e", "FAIL").model_copy(update={"reason": reason})
        nights.write(f"2026-01-{day}", Runs(runs=[(Why.PLAN, run_record([bad]))]))
    assert [line.partition("FAIL   ")[2] for line in run("history", "test_e").stdout.splitlines()[1:4]] == [
        "another",
        "seen: 0x2e at 10 s",
        "for the same reason",
    ]


def test_history_as_json(nights: Nights) -> None:
    rows = json.loads(run("history", CASE, "--cell", "a", "--nights", "1", "--json").stdout)
    assert [(row["night"], row["verdict"], row["rate"], row["kernel"]["release"]) for row in rows] == [
        ("2026-01-02", "FAIL", "1 of 2", "7.2.12")
    ]


def test_text_of_the_guest_is_escaped(nights: Nights) -> None:
    bad = case_record("test_f::test_e", "FAIL").model_copy(update={"reason": "\x1b[2J\nboo"})
    nights.write("2026-01-03", Runs(runs=[(Why.PLAN, run_record([bad], release="7\x1b[2J"))]))
    shown = run("history", "test_e").stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


def test_flakes_lists_verdicts_and_rate(nights: Nights) -> None:
    assert run("flakes").stdout.splitlines() == [
        f"2 of 4 failed: {CASE}",
        "    a, 7.2.12: 2 PASS, 1 FAIL, 1 HANG",
        "1 flaky",
    ]
    (row,) = json.loads(run("flakes", "--json").stdout)
    assert (row["rate"], row["verdicts"]) == ("2 of 4", {"PASS": 2, "FAIL": 1, "HANG": 1})


def test_flakes_without_any_says_so(nights: Nights) -> None:
    nights.write("2026-01-03", cell({CASE: "PASS"}))
    assert run("flakes", "--nights", "1").stdout == "no case had different verdicts on the same kernel\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["history", "test_nothing"], "no night has a case 'test_nothing'"),
        (["history", CASE, "--cell", "b"], "--cell b: no night has this cell"),
    ],
)
def test_an_unknown_case_or_cell_is_refused(nights: Nights, arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*arguments)
    assert str(caught.value) == said
    assert caught.value.hint


@pytest.mark.parametrize("arguments", [["history", CASE], ["flakes"]])
def test_without_a_night_no_file_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path))
    with pytest.raises(UsageError, match="has no night"):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_history_is_rebuilt_and_reported_on_stderr(nights: Nights) -> None:
    before = run("history", CASE).stdout
    (nights.directory / FILE).write_text("bad")
    result = run("history", CASE)
    assert result.stdout == before
    assert "the history cannot be used: file is not a database" in result.stderr


def test_an_id_wins_over_its_parts_and_a_misspelt_one_gets_a_hint() -> None:
    cases = ["f::test_a", "f::test_ab", "f::test_b"]
    assert cases_named("f::test_a", cases) == ["f::test_a"]
    assert cases_named("test_a", cases) == ["f::test_a", "f::test_ab"]
    with pytest.raises(UsageError) as caught:
        cases_named("f::test_ac", cases)
    assert caught.value.hint == "did you mean f::test_a, f::test_ab, f::test_b?"

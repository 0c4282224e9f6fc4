# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a plan: their order, their table and their matrix."""

import json
from pathlib import Path

import pytest

from harness.cases.collect import Collected
from harness.commands.nightly_cells import CaseList, as_matrix, as_text, chosen_cells, duration, longest_first
from harness.errors import UsageError
from harness.nightly.nights import expected_seconds
from harness.nightly.record import Cell, CellResult, CellRun, Night, Why


def cell(name: str, expected_s: float | None = None, **values: object) -> Cell:
    given = {"tree": "t", "kernel": None, "flavour": "release", "machine": "intel-iommu", "suite": "default"}
    return Cell.model_validate({**given, "id": name, "expected_s": expected_s, "cases": ["a::b"], **values})


def night(directory: Path, *runs: CellRun) -> None:
    directory.mkdir(parents=True)
    record = Night(
        night=directory.name, started="s", plan="p", cells=[cell("a")], results=[CellResult(cell="a", runs=[*runs])]
    )
    record.write(directory)


def run(why: Why, seconds: float | None, exit_code: int | None) -> CellRun:
    return CellRun(directory="cells/a/1", why=why, started="s", seconds=seconds, exit_code=exit_code)


def test_the_longest_cell_is_the_first_and_an_unknown_one_may_be_longer() -> None:
    cells = [cell("a", 5), cell("b"), cell("c", 9)]
    assert [each.id for each in longest_first(cells)] == ["b", "c", "a"]


def test_the_expected_time_is_that_of_the_newest_whole_run(tmp_path: Path) -> None:
    night(tmp_path / "2026-01-01", run(Why.PLAN, 60.0, 0))
    night(tmp_path / "2026-01-02", run(Why.PLAN, 5.0, None), run(Why.AGAIN, 3.0, 0))
    (tmp_path / "2026-01-03").mkdir()
    (tmp_path / "2026-01-03" / "nightly.json").write_text("{")
    assert expected_seconds(tmp_path) == {"a": 60.0}


def test_the_table_has_the_sum_and_the_budget() -> None:
    text = as_text([cell("a", 65.4, owner="Ann"), cell("longer")], 3600.0)
    assert text.splitlines() == [
        "cell    cases  expected  owner",
        "a           1      1:05  Ann",
        "longer      1         -",
        "",
        "2 cells: 1:05 one after the other; 1 have not run yet; budget: 1:00:00",
    ]
    assert duration(3725) == "1:02:05"


def test_the_matrix_has_a_job_for_each_cell() -> None:
    chosen = [cell("a", kernel="~/a tree", machine="aer", focus=True), cell("b", qemu="/q", flavour="debug")]
    assert json.loads(as_matrix(chosen)) == {
        "include": [
            {"cell": "a", "args": "--machine=aer '--kernel=~/a tree' --focus"},
            {"cell": "b", "args": "--flavour=debug --qemu=/q"},
        ]
    }
    with pytest.raises(UsageError, match="at most 256 jobs"):
        as_matrix([cell(str(number)) for number in range(257)])


def test_a_cell_is_chosen_by_its_id() -> None:
    cells = [cell("abc"), cell("xyz")]
    assert chosen_cells(cells, []) == cells
    assert chosen_cells(cells, ["xyz"]) == [cells[1]]
    with pytest.raises(UsageError, match="no cell 'abd' in the plan; did you mean 'abc'"):
        chosen_cells(cells, ["abd"])


def test_the_cases_of_a_cell_are_those_that_its_run_selects() -> None:
    cases = CaseList(
        [
            Collected("test_a::test_x", "tests/vm/test_a.py::test_x", ("lifecycle.reset",)),
            Collected("test_b::test_y", "tests/vm/test_b.py::test_y", (), machines=("aer",)),
            Collected("test_stress::test_z", "tests/vm/test_stress.py::test_z", ()),
        ]
    )
    assert cases.of(cell("a")) == ["test_a::test_x"]
    assert cases.of(cell("a", machine="aer")) == ["test_a::test_x", "test_b::test_y"]
    assert cases.of(cell("a", suite="stress")) == ["test_stress::test_z"]
    assert cases.node_ids(["test_b::test_y", "test_c::gone"]) == [
        "tests/vm/test_b.py::test_y",
        "tests/vm/test_c.py::gone",
    ]

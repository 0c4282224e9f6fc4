# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a plan: their order, their table and their matrix."""

import json
from pathlib import Path

import pytest
from made_nights import Nights, Runs
from made_nights import cell as made_cell

from harness.cases.collect import Collected
from harness.commands.nightly_cells import (
    CaseList,
    EarlierRuns,
    as_matrix,
    as_text,
    chosen_cells,
    duration,
    earlier_runs,
    in_order,
)
from harness.errors import UsageError
from harness.nightly.database import FILE
from harness.nightly.record import Cell, Why
from harness.progress import Event, Note, silent


def cell(name: str, expected_s: float | None = None, **values: object) -> Cell:
    given = {"tree": "t", "kernel": None, "flavour": "release", "machine": "intel-iommu", "suite": "default"}
    return Cell.model_validate({**given, "id": name, "expected_s": expected_s, "cases": ["a::b"], **values})


def test_the_longest_cell_runs_first_after_those_of_unknown_duration() -> None:
    cells = [cell("a", 5), cell("b"), cell("c", 9)]
    assert [each.id for each in in_order(cells, dict.fromkeys("abc", "2026-01-01"))] == ["b", "c", "a"]


def test_the_cell_that_has_waited_longest_runs_first() -> None:
    cells = [cell("a", 9), cell("b", 5), cell("c", 7), cell("new", 1)]
    last = {"a": "2026-01-02-10", "b": "2026-01-02-2", "c": "2026-01-02-2"}
    assert [each.id for each in in_order(cells, last)] == ["new", "c", "b", "a"]


@pytest.mark.parametrize("budget", [9.0, 12.0, 16.0, 30.0])
def test_a_small_budget_leaves_out_no_cell_for_long(budget: float) -> None:
    """In each night run those that fit, in their order. The longest one needs the whole smallest budget."""
    cells = [cell(name, seconds) for name, seconds in {"a": 9.0, "b": 8.0, "c": 8.0, "d": 2.0, "e": 1.0}.items()]
    last: dict[str, str] = {}
    ran: list[str] = []
    for night in range(1, 13):
        left = budget
        for each in in_order(cells, last):
            if each.expected_s and each.expected_s <= left:
                left -= each.expected_s
                last[each.id] = f"2026-01-{night:02}"
                ran.append(each.id)
        if night % 4 == 0:
            assert {*ran} == {*"abcde"}, (night, ran)
            ran.clear()


def test_durations_and_turns_come_from_the_history(tmp_path: Path) -> None:
    made = Nights(tmp_path)
    assert earlier_runs(tmp_path, silent) == EarlierRuns()
    assert [*tmp_path.iterdir()] == [], "to list the cells of the first night makes no file"
    made.write("2026-01-01", made_cell({"f::a": "PASS"}, name="ran"), made_cell({"f::a": "PASS"}, name="waits"))
    made.write("2026-01-02", made_cell({"f::a": "PASS"}, name="ran"), Runs("waits", planned=["f::a"]))
    lost = Runs("lost", planned=["f::a"], runs=[(Why.PLAN, None)])
    made.write("2026-01-03", Runs("ran", planned=["f::a"]), lost)
    assert earlier_runs(tmp_path, silent) == EarlierRuns(
        {"ran": 9.0, "waits": 9.0}, {"ran": "2026-01-02", "waits": "2026-01-01", "lost": "2026-01-03"}
    )


def test_a_history_that_cannot_be_used_is_a_note(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    events: list[Event] = []
    assert earlier_runs(tmp_path, events.append) == EarlierRuns()
    assert [event.text[:9] for event in events if isinstance(event, Note)] == ["history: "]


def test_the_table_has_the_last_run_the_sum_and_the_budget() -> None:
    text = as_text([cell("longer"), cell("a", 65.4, owner="Ann")], 60.0, {"a": "2026-01-02"})
    assert text.splitlines() == [
        "cell    cases  expected  last run    owner",
        "longer      1         -  -",
        "a           1   0:01:05  2026-01-02  Ann",
        "",
        "2 cells: 0:01:05 one after the other; 1 of unknown duration; budget: 0:01:00",
        "a takes longer than the budget, and will not run",
    ]
    assert duration(3725) == "1:02:05"
    assert as_text([cell("a", 65.4)], None, {}).splitlines()[-1] == "1 cell: 0:01:05"


def test_the_matrix_has_a_job_for_each_cell() -> None:
    chosen = [cell("a", kernel="~/a tree", machine="aer", focus=True), cell("b", qemu="/q", flavour="debug")]
    chosen.append(cell("c", suite="kvm-test"))
    assert json.loads(as_matrix(chosen)) == {
        "include": [
            {"cell": "a", "command": "run", "args": "--machine=aer '--kernel=~/a tree' --focus"},
            {"cell": "b", "command": "run", "args": "--flavour=debug --qemu=/q"},
            {"cell": "c", "command": "kvm-test", "args": "--required"},
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


def test_the_cases_of_kvm_test_are_those_that_it_requires() -> None:
    cases = CaseList(
        [
            Collected("test_revoke::test_x[edu]", "tests/vm/test_revoke.py::test_x[edu]", ("lifecycle.reset",)),
            Collected("test_umem::test_y", "tests/vm/test_umem.py::test_y", ()),
        ]
    )
    assert cases.of(cell("a", suite="kvm-test")) == ["test_revoke::test_x[edu]"]
    others = CaseList([Collected("test_umem::test_y", "tests/vm/test_umem.py::test_y", ())])
    with pytest.raises(UsageError, match=r"intel-iommu runs no case that .*kvm-test.yaml requires"):
        others.of(cell("a", suite="kvm-test"))

# SPDX-License-Identifier: GPL-2.0-only
"""What a night runs, and in which order: rules for a FAIL, an ERROR, a lost run and the deadline."""

from pathlib import Path

import pytest
from stand_in import DEADLINE_S, GOOD, StandIn, cases_of, cell, runs

from harness.commands import nightly_local, nightly_run
from harness.commands.children import Children
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_local import LocalRunner, free_memory_mib
from harness.commands.nightly_run import Limits, begun, new_night, pin
from harness.config import load_machine
from harness.errors import HarnessError, UsageError
from harness.nested import recipe
from harness.nightly.outcomes import load_night
from harness.nightly.record import Why
from harness.progress import Note


def test_each_cell_runs_once(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, night = stand_in.run(cell("a"), cell("b"))
    assert code == 0
    assert [runs(night, number) for number in (0, 1)] == [[(Why.PLAN, 0)], [(Why.PLAN, 0)]]
    assert night.ended
    assert stand_in.started() == ["a", "b"]
    run = night.results[0].runs[0]
    assert run.directory == "cells/a-cell/1"
    assert (stand_in.nights / "latest" / run.directory / "report.json").exists()
    assert (stand_in.nights / "latest").resolve().name == night.night


def test_a_fail_does_not_stop_the_others(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD | {"test_a::y": "FAIL"}}, b={"verdicts": GOOD})
    assert stand_in.run(cell("a"), cell("b"))[0] == 1
    assert stand_in.started() == ["a", "b"]
    code, night = stand_in.run(cell("a"), cell("b"), limits=Limits(keep_going=False))
    assert (code, runs(night, 1)) == (1, [])


def test_a_case_that_the_run_lacks_is_a_miss(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": {"test_a::x": "PASS"}})
    assert stand_in.run(cell("a"))[0] == 3


def test_errors_run_once_again(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD | {"test_a::y": "ERROR"}, "later": {"test_a::y": ["PASS"]}})
    code, night = stand_in.run(cell("a"))
    assert (code, runs(night)) == (0, [(Why.PLAN, 3), (Why.AGAIN, 0)])
    assert [case["id"] for case in cases_of(stand_in, night.results[0].runs[1])] == ["test_a::y"]


def test_a_second_error_stays(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD | {"test_a::y": "ERROR"}})
    code, night = stand_in.run(cell("a"))
    assert (code, runs(night)) == (3, [(Why.PLAN, 3), (Why.AGAIN, 3)])


@pytest.mark.parametrize(
    ("end", "found"), [(3, [(Why.PLAN, 3), (Why.AGAIN, 3)]), (2, [(Why.PLAN, 2)]), (1, [(Why.PLAN, 1)])]
)
def test_an_error_before_the_first_case_is_kept(stand_in: StandIn, end: int, found: list[tuple[Why, int]]) -> None:
    """Only an error of the host may be another one the second time."""
    stand_in.does(a={"verdicts": {}, "code": end, "error": "it does not\nbuild"})
    code, night = stand_in.run(cell("a"))
    assert (code, runs(night)) == (1 if end == 1 else 3, found)
    assert night.results[0].runs[0].error.startswith("it does not")


def test_a_process_that_is_killed_runs_again_at_most_twice(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD, "kill": True})
    code, night = stand_in.run(cell("a"))
    assert (code, runs(night)) == (3, [(Why.PLAN, None)] * 3)
    assert night.results[0].runs[0].error == "the run was ended by SIGKILL"


def test_a_new_failure_is_repeated_for_its_rate(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD})
    stand_in.run(cell("a"))
    stand_in.does(a={"verdicts": GOOD | {"test_a::y": "FAIL"}, "later": {"test_a::y": ["FAIL", "PASS"]}})
    code, night = stand_in.run(cell("a"))
    assert code == 1
    assert [why for why, _ in runs(night)] == [Why.PLAN, *[Why.RATE] * 10]
    plan, *rates = [cases_of(stand_in, run) for run in night.results[0].runs]
    assert [[case["id"] for case in cases] for cases in rates] == [["test_a::y"]] * 10
    assert [cases[0]["seed"] == plan[0]["seed"] for cases in rates] == [True] * 5 + [False] * 5
    (change,) = night.changes
    assert (change.kind, change.case) == ("broken", "test_a::y")
    assert change.rate.endswith(" of 10")
    _, third = stand_in.run(cell("a"))
    assert [why for why, _ in runs(third)] == [Why.PLAN], "it was bad in the last night, too"


def test_after_the_deadline_nothing_starts_and_what_runs_is_ended(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD})
    code, night = stand_in.run(cell("a"), cell("b"), deadline_s=2.0)
    assert (code, runs(night, 0), runs(night, 1)) == (3, [(Why.PLAN, 130)], [])
    assert "deadline" in night.results[0].runs[0].error
    assert night.ended
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, night = stand_in.run(limits=Limits(deadline_s=DEADLINE_S))
    assert (code, runs(night, 0), runs(night, 1)) == (0, [(Why.PLAN, 130), (Why.PLAN, 0)], [(Why.PLAN, 0)])


def test_a_cell_that_cannot_end_in_time_does_not_start(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, _ = stand_in.run(cell("a", expected_s=600.0), cell("b", expected_s=1.0), deadline_s=DEADLINE_S)
    assert code == 3
    assert stand_in.started() == ["b"]


def test_a_finished_night_is_not_repeated(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD})
    _, night = stand_in.run(cell("a"))
    code, again = stand_in.run()
    assert (code, again.results) == (0, night.results)
    assert stand_in.started() == ["a"]


def test_only_the_chosen_cells_continue(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    stand_in.run(cell("a"), cell("b"), limits=Limits(only=["b-cell"]))
    assert stand_in.started() == ["b"]


def test_there_is_no_night_to_continue(stand_in: StandIn) -> None:
    with pytest.raises(UsageError, match="no night to continue"):
        stand_in.run()


def test_the_record_names_every_cell_before_the_first_runs(stand_in: StandIn) -> None:
    stand_in.does()
    with begun(stand_in.nights, new_night(Path("/plan.yaml"), [cell("a")], None)) as running:
        assert load_night(stand_in.nights / "latest").cells == [cell("a")]
        assert running.directory == (stand_in.nights / "latest").resolve()


def test_cells_run_beside_each_other_if_processors_and_memory_allow(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD}, c={"verdicts": GOOD})
    jobs = [nightly_local.Job(cell(tree), Why.PLAN) for tree in "abc"]
    need = 2 * nightly_local.machine_mib(jobs[0])  # each has two cases, so two machines
    for processors, memory, fit in [(2, 100 * need, 1), (16, 100 * need, 3), (16, 2 * need, 2), (16, 1, 1)]:
        monkeypatch.setattr(nightly_local, "processors", lambda processors=processors: processors)
        monkeypatch.setattr(nightly_local, "default_jobs", lambda processors=processors: min(2 * processors, 8))
        runner = LocalRunner(Children(), CaseList([]), memory)
        running: list[nightly_local.Ticket] = []
        for job in jobs:
            if runner.host_for(job, running) is not None:
                running.append(nightly_local.Ticket(job, 0, stand_in.top))
        assert len(running) == fit, (processors, memory)
    assert free_memory_mib() > 0


def test_a_cell_of_kvm_test_is_one_run_of_that_command(stand_in: StandIn) -> None:
    nested = cell("a").model_copy(update={"suite": "kvm-test"})
    jobs = [nightly_local.Job(each, Why.PLAN, seed=7) for each in (cell("a"), nested)]
    plain, task = (
        nightly_local.task_of(nightly_local.Ticket(job, 0, stand_in.top), CaseList([]), jobs=2).command()
        for job in jobs
    )
    assert {"run", "--jobs=2"} <= {*plain}
    assert {"kvm-test", "--required"} <= {*task}
    assert not [word for word in task if word.startswith(("--jobs", "--suite", "--seed"))]
    around = recipe.load().outer.memory_mib
    assert nightly_local.machine_mib(jobs[1]) == nightly_local.machine_mib(jobs[0]) + around
    assert nightly_local.machines_of(jobs[1], 4) == 1


def test_the_memory_of_a_peer_counts() -> None:
    job = nightly_local.Job(cell("a").model_copy(update={"machine": "roce-pair"}), Why.PLAN)
    machine = load_machine("roce-pair")
    assert machine.peer
    assert nightly_local.machine_mib(job) > machine.memory_mib + machine.peer.memory_mib


def test_a_ref_is_pinned_once_for_all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def pinned(kernel: str | None, emit: object) -> str | None:
        asked.append(kernel)
        if kernel == "gone@main":
            raise HarnessError("no such repository")
        return f"{kernel}={'0' * 40}" if kernel else None

    monkeypatch.setattr(nightly_run, "pinned_kernel", pinned)
    notes: list[object] = []
    cells = [cell("linux@main"), cell("linux@main"), cell("gone@main"), cell("x").model_copy(update={"kernel": None})]
    found = [each.kernel for each in pin(cells, notes.append)]
    assert found == [f"linux@main={'0' * 40}"] * 2 + ["gone@main", None]
    assert asked == ["linux@main", "gone@main", None]
    assert notes == [Note("gone@main: no such repository")]

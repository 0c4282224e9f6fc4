# SPDX-License-Identifier: GPL-2.0-only
"""The runs of automatic mutants on one machine."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from made_nights import run_record

from harness.bugs.auto import of_file
from harness.cases.collect import Collected
from harness.commands import auto_mutant_runs
from harness.commands.auto_mutant_runs import MutantRuns, write_machine
from harness.commands.children import Ended, Task
from harness.config import load_machine
from harness.gcov.counters import Reached
from harness.gcov.measure import FunctionCoverage, KernelCoverage
from harness.progress import Phase, silent
from harness.report.outcomes import MutantOutcome, differs
from harness.report.record import load
from harness.run.options import Options
from harness.verdict import CaseRecord, RunRecord, Verdict

MACHINE = Options().machine


def case(name: str, seconds: float, reason: str = "") -> CaseRecord:
    """A case that passes, or fails for a reason."""
    verdict = Verdict.FAIL if reason else Verdict.PASS
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, reason=reason, duration_s=seconds)


def control(*cases: CaseRecord) -> RunRecord:
    return run_record(cases, machine=MACHINE)


def test_with_a_control_at_hand_only_its_cases_that_reach_a_mutant_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"int f(void)\n{\n\tg();\n\treturn 0;\n}\n"
    mutants = [each for each in of_file("x.c", text, ["f"]) if each.edit.line == 3]
    cases = [case("t::slow", 2.0), case("t::quick", 1.0), case("t::other", 0.1)]
    reached = {Reached(name, MACHINE) for name in ("t::slow", "t::quick", "t::not_run")}
    ran: list[Sequence[str]] = []

    def run_all(tasks: Iterator[Task], jobs: int, on_end: Callable[[Task, Ended], None], show: object) -> None:
        for task in tasks:
            ran.append([Path(node).name for node in task.cases])
            on_end(task, Ended(0, 1.0, control(*(each for each in cases if each.id != "t::other"))))

    monkeypatch.setattr(auto_mutant_runs, "run_all", run_all)
    runs = MutantRuns(
        Options(),
        mutants,
        {each.id: number for number, each in enumerate(mutants)},
        {"x.c": text},
        KernelCoverage({("x.c", "f"): FunctionCoverage("x.c", "f", {3: reached})}),
        collected={each.id: Collected(each.id, f"tests/vm/{each.id}", ()) for each in cases},
        directory=tmp_path,
        first_runs=False,
        control=control(*cases),
        emit=silent,
    )
    runs.run(1, cast(Phase, None))
    assert ran == [["t::quick", "t::slow"]]
    assert {record.outcome for record in runs.judged.values()} == {MutantOutcome.SURVIVED}


@pytest.mark.parametrize(
    ("reasons", "outcome"),
    [
        (["broken: x; seen: 1", "broken: y 1", "broken: z"], MutantOutcome.CAUGHT),
        (["broken: x; seen: 2", "broken: y 2", ""], MutantOutcome.SURVIVED),
        (["broken: x; seen: 1", "broken: w", ""], MutantOutcome.CAUGHT),
    ],
    ids=["a good case fails", "only numbers differ", "a bad case fails earlier"],
)
@pytest.mark.parametrize("first_runs", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_goes_on_after_cases_that_are_bad_without_a_mutant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reasons: Sequence[str],
    outcome: MutantOutcome,
    *,
    first_runs: bool,
    count: int,
) -> None:
    """Each run stops where ``vfio-harness run`` does."""
    text = b"int f(int a)\n{\n\tg(a);\n\treturn 0;\n}\n"
    mutants = [*of_file("x.c", text, ["f"])][:count]
    names = ["t::bad", "t::worse", "t::good"]
    reached = {Reached(name, MACHINE) for name in names}
    mutated = {name: case(name, 1.0, reason) for name, reason in zip(names, reasons, strict=True)}

    def run_all(tasks: Iterator[Task], jobs: int, on_end: Callable[[Task, Ended], None], show: object) -> None:
        for task in tasks:
            limit, file = task.options.fail_after, task.options.until_changed
            before = {each.id: each for each in load(file).cases} if file else {}
            found: list[CaseRecord] = []
            for name in (Path(node).name for node in task.cases):
                found.append(mutated[name])
                if sum(each.verdict is Verdict.FAIL for each in found) == limit:
                    break
                if name in before and differs(before[name], found[-1]):
                    break
            on_end(task, Ended(1, 1.0, control(*found)))

    monkeypatch.setattr(auto_mutant_runs, "run_all", run_all)
    runs = MutantRuns(
        Options(),
        mutants,
        {each.id: number for number, each in enumerate(mutants)},
        {"x.c": text},
        KernelCoverage({("x.c", "f"): FunctionCoverage("x.c", "f", dict.fromkeys((3, 4), reached))}),
        collected={name: Collected(name, f"tests/vm/{name}", ()) for name in names},
        directory=tmp_path,
        first_runs=first_runs,
        control=control(
            case("t::bad", 0.1, "broken: x; seen: 1"), case("t::worse", 0.2, "broken: y 1"), case("t::good", 1.0)
        ),
        emit=silent,
    )
    runs.run(1, cast(Phase, None))
    assert [each.outcome for each in runs.judged.values()] == [outcome] * count


def test_a_machine_with_one_more_kernel_argument_keeps_its_name_and_focus(tmp_path: Path) -> None:
    base, written = load_machine("aer"), load_machine(str(write_machine(tmp_path, "aer", "quiet")))
    assert (written.name, written.focus) == (base.name, base.focus)
    assert written.kernel_args == (*base.kernel_args, "quiet")

# SPDX-License-Identifier: GPL-2.0-only
"""The runs of a review's mutants, place by place, and cases that differ without one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from made_nights import run_record

from harness.bugs.auto import AutoMutant, of_file
from harness.cases.collect import Collected
from harness.commands import review_mutants
from harness.commands.auto_mutant_runs import record_of
from harness.commands.children import Ended, Task
from harness.commands.review_lines import LineCounters
from harness.commands.review_mutants import Place, ReviewMutants
from harness.commands.review_source import Reviewed
from harness.gcov.counters import Reached
from harness.kernel import Kernel
from harness.kernel.source.difference import FileDifference
from harness.progress import silent
from harness.report.auto_mutants import AutoMutantRecord
from harness.report.outcomes import MutantOutcome
from harness.run.options import Options
from harness.verdict import CaseRecord, RunRecord, Verdict

FILE = "drivers/x.c"
TEXT = b"int f(int a)\n{\n\tif (a)\n\t\treturn -EINVAL;\n\tg(a);\n\treturn 0;\n}\n"
MACHINE = Options().machine
GOOD, FLAKY, ELSEWHERE = "test_a::good", "test_a::flaky", "test_b::elsewhere"


def run_of(machine: str, **verdicts: Verdict) -> RunRecord:
    ids = {"good": GOOD, "flaky": FLAKY, "elsewhere": ELSEWHERE}
    return run_record(
        [
            CaseRecord(id=ids[name], area="a", title="t", verdict=verdict, reason="", duration_s=1.0)
            for name, verdict in verdicts.items()
        ],
        machine=machine,
    )


@pytest.fixture
def counters() -> LineCounters:
    """Two cases reach the new function on the default machine, and one on another."""
    found = LineCounters(Reviewed(None, ("a",), [FileDifference(FILE, None, TEXT)]))
    cases = {Reached(GOOD, MACHINE), Reached(FLAKY, MACHINE), Reached(ELSEWHERE, "sriov")}
    found.lines[FILE] = {3: cases, 5: cases, 6: cases}
    return found


class Runs:
    """Stands in for the runs on one machine."""

    made: list["Runs"]
    outcome: Callable[["Runs", AutoMutant], tuple[MutantOutcome, str]]

    def __init__(self, options: Options, mutants: Sequence[AutoMutant], *arguments: Any, **more: Any) -> None:
        self.machine, self.mutants = options.machine, mutants
        self.unstable, self.control = {*more["unstable"]}, more["control"]
        self.judged: dict[str, AutoMutantRecord] = {}
        self.made.append(self)

    def run(self, jobs: int, step: object) -> None:
        for mutant in self.mutants:
            outcome, case = type(self).outcome(self, mutant)
            record = record_of(mutant, self.machine, outcome, "")
            self.judged[mutant.id] = record.model_copy(update={"case": case or None})


@pytest.fixture
def work(counters: LineCounters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReviewMutants:
    """The mutants of the function, with runs that are not made. Without a mutant, the flaky case fails."""
    found = ReviewMutants(counters, tmp_path, 1, silent)
    found._mutants = [each for each in of_file(FILE, TEXT, ["f"]) if each.edit.line in (3, 5)]
    Runs.made = []
    collected = [Collected(name, f"tests/vm/{name}", ()) for name in (GOOD, FLAKY, ELSEWHERE)]
    monkeypatch.setattr(review_mutants, "MutantRuns", Runs)
    monkeypatch.setattr(review_mutants, "collect", lambda: collected)

    def run_all(tasks: Sequence[Task], jobs: int, on_end: Callable[[Task, Ended], None]) -> None:
        for task in tasks:
            on_end(task, Ended(1, 1.0, run_of(task.options.machine, good=Verdict.PASS, flaky=Verdict.FAIL)))

    monkeypatch.setattr(review_mutants, "run_all", run_all)
    return found


def places() -> list[Place]:
    return [
        Place(Options(), run_of(MACHINE, good=Verdict.PASS, flaky=Verdict.PASS)),
        Place(Options(machine="sriov"), run_of("sriov", elsewhere=Verdict.PASS)),
    ]


def run(work: ReviewMutants) -> None:
    work.run(cast(Kernel, SimpleNamespace(build_dir=Path("/nowhere"), release="7.2.12")), places())


def test_survivors_run_at_the_next_place(work: ReviewMutants, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(runs: Runs, mutant: AutoMutant) -> tuple[MutantOutcome, str]:
        if mutant.edit.rule == "drop-call" and runs.machine == MACHINE:
            return MutantOutcome.SURVIVED, ""
        return MutantOutcome.CAUGHT, GOOD if runs.machine == MACHINE else ELSEWHERE

    monkeypatch.setattr(Runs, "outcome", staticmethod(outcome), raising=False)
    run(work)
    first, second = Runs.made
    assert [case.id for case in first.control.cases] == [GOOD, FLAKY]
    assert [case.id for case in second.control.cases] == [ELSEWHERE]
    assert [mutant.edit.rule for mutant in second.mutants] == ["drop-call"]
    assert {each.outcome for each in work.judged()} == {MutantOutcome.CAUGHT}


def test_a_case_that_fails_without_a_mutant_says_nothing(work: ReviewMutants, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(runs: Runs, mutant: AutoMutant) -> tuple[MutantOutcome, str]:
        if runs.machine == MACHINE and FLAKY not in runs.unstable:
            return MutantOutcome.CAUGHT, FLAKY
        return MutantOutcome.SURVIVED, ""

    monkeypatch.setattr(Runs, "outcome", staticmethod(outcome), raising=False)
    run(work)
    assert [runs.unstable for runs in Runs.made] == [set(), {FLAKY}, set()]
    assert {each.outcome for each in work.judged()} == {MutantOutcome.SURVIVED}


@pytest.mark.parametrize(
    ("elsewhere", "outcome"), [(Verdict.SPLAT, MutantOutcome.MASKED), (Verdict.KNOWN, MutantOutcome.SURVIVED)]
)
def test_a_survivor_whose_cases_all_fail_anyway_is_masked(
    work: ReviewMutants, monkeypatch: pytest.MonkeyPatch, elsewhere: Verdict, outcome: MutantOutcome
) -> None:
    survived = staticmethod(lambda runs, mutant: (MutantOutcome.SURVIVED, ""))
    monkeypatch.setattr(Runs, "outcome", survived, raising=False)
    bad = [
        Place(Options(), run_of(MACHINE, good=Verdict.FAIL, flaky=Verdict.HANG)),
        Place(Options(machine="sriov"), run_of("sriov", elsewhere=elsewhere)),
    ]
    work.run(cast(Kernel, SimpleNamespace(build_dir=Path("/nowhere"), release="7.2.12")), bad)
    assert {each.outcome for each in work.judged()} == {outcome}


def test_a_mutant_that_was_not_run_is_an_error(work: ReviewMutants) -> None:
    work._uncopied = [next(each for each in of_file(FILE, TEXT, ["f"]) if each.edit.line == 6)]
    (left,) = work.judged()
    assert (left.outcome, left.reason) == (MutantOutcome.ERROR, "a copy of its function does not compile")

# SPDX-License-Identifier: GPL-2.0-only
"""Which automatic mutants run where, and what an interrupted run leaves."""

from collections.abc import Mapping
from typing import cast

import pytest
from click.testing import CliRunner

from harness import kernel
from harness.bugs.auto import AutoMutant
from harness.bugs.equivalent import equivalents
from harness.bugs.rules import Edit
from harness.cli import cli
from harness.commands.auto_mutant_runs import MutantRuns, record_of
from harness.commands.auto_mutants import Judging
from harness.errors import UsageError
from harness.gcov.counters import Reached
from harness.gcov.measure import FunctionCoverage, KernelCoverage
from harness.progress import Phase
from harness.report.auto_mutants import AutoMutantRecord
from harness.report.outcomes import MutantOutcome
from harness.run.options import Options

FILE = "drivers/x.c"
MACHINE = Options().machine


def mutant(
    name: str, line: int, *, file: str = FILE, rule: str = "drop-call", change: str = "g(); -> { }"
) -> AutoMutant:
    return AutoMutant(name, file, Edit(name, line, rule, 0, 0, b""), change)


class Runs:
    """The runs on one machine, with chosen outcomes. They end, or are interrupted."""

    def __init__(self, outcomes: Mapping[AutoMutant, MutantOutcome], *, interrupted: bool = False) -> None:
        self._outcomes = outcomes
        self._interrupted = interrupted
        self.judged: dict[str, AutoMutantRecord] = {}

    def run(self, jobs: int, step: Phase) -> None:
        assert jobs
        assert step is None
        self.judged = {each.id: record_of(each, MACHINE, outcome, "") for each, outcome in self._outcomes.items()}
        if self._interrupted:
            raise KeyboardInterrupt


def run(judging: Judging, runs: Runs) -> None:
    judging.run(cast(MutantRuns, runs), 1, cast(Phase, None))


def judging_of(*mutants: AutoMutant) -> Judging:
    return Judging(mutants, {each.file: [""] * 5000 for each in mutants}, MACHINE)


def test_survivors_run_where_a_case_reaches_their_line() -> None:
    caught, near, far = mutant("f", 1), mutant("g", 2), mutant("h", 3)
    judging = judging_of(caught, near, far)
    reached = KernelCoverage(
        {
            (FILE, name): FunctionCoverage(FILE, name, {line: {Reached("case", machine)}})
            for name, line, machine in (("f", 1, "no-iommu"), ("g", 2, "no-iommu"), ("h", 3, "switch"))
        }
    )
    assert judging.waiting(Options(), reached, everywhere=True) == [caught, near, far]
    survived = dict.fromkeys((near, far), MutantOutcome.SURVIVED)
    run(judging, Runs({caught: MutantOutcome.CAUGHT, **survived}))
    assert judging.waiting(Options(machine="no-iommu"), reached, everywhere=False) == [near]


def test_known_equivalents_need_no_run() -> None:
    entry = next(each for each in equivalents() if not each.code)
    same = mutant(entry.function, 7, file=entry.file, rule=entry.rule, change=entry.change)
    other = mutant("f", 1)
    judging = judging_of(same, other)
    judging.skip_equivalents()
    assert judging.waiting(Options(), KernelCoverage(), everywhere=True) == [other]
    assert [record.outcome for record in judging.records()] == [MutantOutcome.EQUIVALENT, MutantOutcome.ERROR]


def test_an_interrupted_run_keeps_what_it_judged() -> None:
    done, left = mutant("f", 1), mutant("g", 2)
    judging = judging_of(done, left)
    with pytest.raises(KeyboardInterrupt):
        run(judging, Runs({done: MutantOutcome.CAUGHT}, interrupted=True))
    assert [(record.outcome, record.reason) for record in judging.records()] == [
        (MutantOutcome.CAUGHT, ""),
        (MutantOutcome.ERROR, "interrupted"),
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--functions", "vfio_pci_dma_buf_mvoe"], "did you mean 'vfio_pci_dma_buf_move'"),
        (["--coverage", "."], "has no kernel coverage"),
    ],
)
def test_arguments_are_checked_before_the_kernel_is_built(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def obtain(*_: object) -> None:
        pytest.fail("a kernel was built")

    monkeypatch.setattr(kernel, "obtain", obtain)
    with pytest.raises(UsageError, match=complaint):
        CliRunner().invoke(cli, ["mutants", "--auto", *arguments], catch_exceptions=False)


def test_automatic_mutants_have_no_entries_of_the_catalogue() -> None:
    done = CliRunner().invoke(cli, ["mutants", "--auto", "--only", "cmb-release"])
    assert done.exit_code == 2
    assert "--auto and --only exclude each other" in done.output

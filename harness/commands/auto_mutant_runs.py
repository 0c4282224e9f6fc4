# SPDX-License-Identifier: GPL-2.0-only
"""The runs of automatic mutants on one machine, and what comes of each mutant.

First each mutant runs by itself on a few cases that reach its line, if a coverage run is at hand. Those that no case
noticed are then turned on several at a time, for all cases: so a survivor costs a fraction of a run. Where a case
noticed something, each of those mutants runs by itself on the cases that noticed and reach its line.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import yaml

from harness.bugs.auto import AutoMutant, groups, patch_of
from harness.bugs.switched import kernel_argument
from harness.cases.collect import Collected
from harness.commands.children import Ended, Task, run_all
from harness.commands.mutant_cases import cheapest_first, reaching, spread
from harness.config import load_machine
from harness.gcov.measure import KernelCoverage
from harness.progress import Emit, Note, Phase
from harness.report.auto_mutants import AutoMutantRecord
from harness.report.outcomes import MutantOutcome, changed_cases, untested_cases
from harness.report.record import to_json, write_report
from harness.report.text import summarise, tally
from harness.run.options import Options
from harness.verdict import BAD, CaseRecord, RunRecord, Verdict

CONTROLS = ("control-1", "control-2")
"""Runs of all cases without a mutant. A case on which they disagree says nothing about a mutant."""
GROUP = 16
"""The most mutants that are on together."""
GROUP_STOPS = 6
"""A run of several mutants ends after this many bad cases: one mutant may break every case."""
ALONE_S = 12.0
"""What the cases of a mutant's first run may take together, in seconds of the control's run."""


@dataclass
class _Group:
    """Mutants that share a kernel, and what the whole suite showed on it."""

    mutants: list[AutoMutant]
    task: Task
    noticed: list[str] = field(default_factory=list)
    """The ids of the cases whose verdict differs from the control's, or that could not be tested."""
    complete: bool = False
    """Whether every case ran."""


class MutantRuns:
    """The runs on one machine, and what has come of them so far."""

    def __init__(
        self,
        options: Options,
        mutants: Sequence[AutoMutant],
        numbers: Mapping[str, int],
        sources: Mapping[str, bytes],
        reached: KernelCoverage,
        *,
        collected: Mapping[str, Collected],
        cases: Sequence[str] = (),
        directory: Path,
        first_runs: bool = True,
        control: RunRecord | None = None,
        unstable: Collection[str] = (),
        likely: Mapping[str, Collection[str]] | None = None,
        emit: Emit,
    ) -> None:
        """Raises UsageError for an unknown machine.

        ``options``: their machine and focus decide which cases run. ``numbers``: each mutant's number in the kernel.
        ``collected``: every case, by its id. ``cases``: the node ids of those that run; empty: what the options select.
        ``first_runs``: whether each mutant runs by itself first, which costs more than it saves where few cases run.
        ``control``: a run without a mutant that is at hand; those of its cases run that reach a mutant. Without one,
        two are made. ``unstable``: cases that say nothing about a mutant. ``likely``: for a function, cases that should
        notice a fault in it; a mutant meets them first.
        """
        self._options = options
        self._mutants = mutants
        self._all = cases
        self._numbers = numbers
        self._sources = sources
        self._reached = reached
        self._directory = directory
        self._has_first_runs = first_runs
        self._emit = emit
        self._machine = load_machine(options.machine).name
        self.judged: dict[str, AutoMutantRecord] = {}
        self._alone: dict[str, AutoMutant] = {}
        """The mutant of each run that has one, by the run's name."""
        self._ran_alone: dict[str, set[str]] = {}
        """The cases that did not notice a mutant in a run of its own, by its id."""
        self._groups: dict[str, _Group] = {}
        self._controls: list[RunRecord] = []
        self.unstable = {*unstable}
        """The cases on which the controls disagree."""
        self._likely = likely or {}
        self._cases = collected
        self._number = 0
        if control:
            self._take(control)

    def _take(self, control: RunRecord) -> None:
        """Take a run that is at hand for the control, and those of its cases that reach a mutant."""
        can_notice = set().union(*(reaching(each, self._reached, self._options) for each in self._mutants))
        cases = [case for case in control.cases if case.id in can_notice]
        self._controls = [control.model_copy(update={"cases": cases})]
        self._all = self._nodes(cheapest_first(self._seconds, self._seconds))

    def _nodes(self, cases: Iterable[str]) -> list[str]:
        return [self._cases[case].node for case in cases]

    def run(self, jobs: int, step: Phase) -> None:
        """Run the controls, then the mutants. Raises HarnessError if a control ends without a record."""
        if not self._controls:
            self._run_controls(jobs)
        for tasks, ended in self._stages():
            run_all(tasks, jobs, ended, lambda running: step.progress(self._progress(running)))

    def _run_controls(self, jobs: int) -> None:
        tasks = [Task(name, self._options, self._directory / name, self._all) for name in CONTROLS]
        run_all(tasks, jobs, lambda task, end: self._controls.append(end.require()))
        for control in self._controls:
            self._emit(Note(f"control on {self._machine}: {tally(control.summary)}"))
            self.unstable |= {case.id for _, case in changed_cases(self.control, control)}
            self.unstable |= {case.id for case in control.cases if case.verdict is Verdict.ERROR}
        for case in sorted(self.unstable):
            self._emit(Note(f"left out on {self._machine}, since the controls disagree: {case}"))

    @property
    def control(self) -> RunRecord:
        """A run without a mutant."""
        return self._controls[0]

    @property
    def summary(self) -> dict[str, int]:
        """How many cases got each verdict without a mutant; empty if no control has ended."""
        return summarise(self.control.cases) if self._controls else {}

    def left_out(self) -> list[str]:
        """Return ``case on machine`` for each case on which the controls disagree."""
        return [f"{case} on {self._machine}" for case in sorted(self.unstable)]

    def _changed(self, mutated: RunRecord) -> list[tuple[CaseRecord, CaseRecord]]:
        return [pair for pair in changed_cases(self.control, mutated) if pair[1].id not in self.unstable]

    def _stages(self) -> Iterator[tuple[Iterator[Task], Callable[[Task, Ended], None]]]:
        """Yield the runs of each stage, and what judges them. A stage begins when the one before it has ended."""
        if self._has_first_runs:
            yield self._first_runs(), self._ended_alone
        self._judge_unreached()
        waiting = groups(self._left(), GROUP)
        while waiting:
            self._groups.clear()
            yield map(self._in_group, waiting), self._ended_shared
            yield self._suspects(), self._ended_alone
            yield self._unexplained(), self._ended_alone
            waiting = self._again()

    def _judge_unreached(self) -> None:
        """Judge the mutants whose line no case reaches: nothing can notice them. Without coverage runs, all may be."""
        for mutant in self._left() if self._reached.functions else []:
            if not self._reaching(mutant):
                self._judge(mutant, MutantOutcome.SURVIVED, reason="no case reaches its line")

    def _left(self) -> list[AutoMutant]:
        return [mutant for mutant in self._mutants if mutant.id not in self.judged]

    def _left_of(self, group: _Group) -> list[AutoMutant]:
        return [mutant for mutant in group.mutants if mutant.id not in self.judged]

    def _first_runs(self) -> Iterator[Task]:
        """Run each mutant on a few cases that reach its line, if any. File after file: that saves compilation."""
        for mutant in sorted(self._mutants, key=lambda each: (each.file, each.edit.start)):
            reached = self._reaching(mutant)
            good = reached - self._bad or reached
            likely = good & {*self._likely.get(mutant.edit.function, ())}
            chosen = spread(likely, self._seconds, ALONE_S) + spread(good - likely, self._seconds, ALONE_S)
            if chosen:
                yield self._by_itself(mutant, chosen)

    def _suspects(self) -> Iterator[Task]:
        """Run each mutant of a kernel in which cases noticed something on those of them that reach its line."""
        for group in self._groups.values():
            for mutant in self._left_of(group):
                reached = self._reaching(mutant) or set(self._cases)
                if chosen := self._not_yet(mutant, [case for case in group.noticed if case in reached]):
                    yield self._by_itself(mutant, chosen)

    def _unexplained(self) -> Iterator[Task]:
        """Run each mutant on every case that noticed something, where no mutant of the kernel explains it so far."""
        for group in self._groups.values():
            if self._left_of(group) == group.mutants:
                for mutant in group.mutants:
                    if chosen := self._not_yet(mutant, group.noticed):
                        yield self._by_itself(mutant, chosen)

    def _reaching(self, mutant: AutoMutant) -> set[str]:
        """Return the cases that reach a mutant's line and that the control ran."""
        return reaching(mutant, self._reached, self._options) & self._seconds.keys()

    @cached_property
    def _seconds(self) -> dict[str, float]:
        return {case.id: case.duration_s for case in self.control.cases}

    @cached_property
    def _bad(self) -> set[str]:
        """The cases that are bad without a mutant, too."""
        return {case.id for case in self.control.cases if case.verdict in BAD}

    @cached_property
    def _control_file(self) -> Path:
        """The control without the cases that say nothing, as a file: a mutant's own run ends where it differs."""
        stable = (case for case in self.control.cases if case.id not in self.unstable)
        cases = [case.model_copy(update={"evidence": []}) for case in stable]
        path = self._directory / "control.json"
        write_report(path, to_json(self.control.model_copy(update={"cases": cases})))
        return path

    def _not_yet(self, mutant: AutoMutant, cases: Sequence[str]) -> list[str]:
        ran = self._ran_alone.get(mutant.id, set())
        return cheapest_first({*cases} - ran, self._seconds)

    def _by_itself(self, mutant: AutoMutant, cases: Sequence[str]) -> Task:
        task = self._task([mutant], self._nodes(cases))
        self._alone[task.name] = mutant
        return task

    def _in_group(self, mutants: list[AutoMutant]) -> Task:
        task = self._task(mutants, self._all)
        self._groups[task.name] = _Group(mutants, task)
        return task

    def _task(self, mutants: Sequence[AutoMutant], nodes: Sequence[str]) -> Task:
        self._number += 1
        name = f"{self._number:04}-{mutants[0].id}" + (f"+{len(mutants) - 1}" if len(mutants) > 1 else "")
        directory = self._directory / name
        directory.mkdir(parents=True)
        # `vfio-harness run --series FILE` shows these mutants without the others.
        write_report(directory / "mutants.patch", patch_of(mutants, self._sources))
        machine = write_machine(
            directory, self._options.machine, kernel_argument(self._numbers[each.id] for each in mutants)
        )
        options = replace(self._options, machine=str(machine))
        if len(mutants) > 1:
            options = replace(options, fail_after=len(self._bad) + GROUP_STOPS)
        else:
            options = replace(options, until_changed=self._control_file)
        return Task(name, options, directory, nodes)

    def _ended_alone(self, task: Task, end: Ended) -> None:
        """Judge a mutant that ran by itself on some cases: it is caught, or stays."""
        mutant = self._alone[task.name]
        if end.record is None:
            self._judge(mutant, MutantOutcome.ERROR, task, reason=str(end.error))
        elif changed := self._changed(end.record):
            self._judge(mutant, MutantOutcome.CAUGHT, task, changed[0])
        elif untested := untested_cases(self.control, end.record):
            self._judge(mutant, MutantOutcome.ERROR, task, reason=untested[0].reason)
        else:
            self._ran_alone.setdefault(mutant.id, set()).update(case.id for case in end.record.cases)

    def _ended_shared(self, task: Task, end: Ended) -> None:
        """Keep what the whole suite showed on a kernel with several mutants."""
        group = self._groups[task.name]
        if len(group.mutants) == 1:
            self._ended_by_itself(group, end)
        elif end.record is not None:
            changed = [case.id for _, case in self._changed(end.record)]
            group.noticed = changed + [case.id for case in untested_cases(self.control, end.record)]
            group.complete = len(end.record.cases) >= len(self.control.cases)

    def _ended_by_itself(self, group: _Group, end: Ended) -> None:
        (mutant,) = group.mutants
        self._alone[group.task.name] = mutant
        self._ended_alone(group.task, end)
        group.complete = True

    def _again(self) -> list[list[AutoMutant]]:
        """Judge the survivors of the runs that had every case; return the groups of the others for the next runs.

        A group in which no mutant was found is split: the whole suite then runs on fewer."""
        split: list[list[AutoMutant]] = []
        left: list[AutoMutant] = []
        for group in self._groups.values():
            mutants = self._left_of(group)
            if group.complete:
                for mutant in mutants:
                    self._judge(mutant, MutantOutcome.SURVIVED, group.task)
            elif mutants == group.mutants:
                middle = len(mutants) // 2
                split += [mutants[:middle], mutants[middle:]]
            else:
                left += mutants
        return split + groups(left, GROUP)

    def _judge(
        self,
        mutant: AutoMutant,
        outcome: MutantOutcome,
        task: Task | None = None,
        changed: tuple[CaseRecord, CaseRecord] | None = None,
        *,
        reason: str = "",
    ) -> None:
        results = f"{self._directory.name}/{task.name}" if task else ""
        record = record_of(mutant, self._machine, outcome, reason, results)
        if changed:
            was, case = changed
            decided = {"case": case.id, "was": was.verdict, "verdict": case.verdict, "reason": case.reason}
            record = record.model_copy(update=decided)
        self.judged[mutant.id] = record
        self._emit(Note(str(record)))

    def _progress(self, running: Sequence[Task]) -> str:
        """Return how many mutants are judged, and what runs."""
        return f"{self._machine}: {len(self.judged)} of {len(self._mutants)} judged; {'; '.join(map(str, running))}"


def record_of(
    mutant: AutoMutant, machine: str, outcome: MutantOutcome, reason: str, results: str = ""
) -> AutoMutantRecord:
    """Return the record of a mutant that no case caught. ``results``: the directory of the run that decided."""
    return AutoMutantRecord(
        id=mutant.id,
        file=mutant.file,
        function=mutant.edit.function,
        line=mutant.edit.line,
        rule=mutant.edit.rule,
        description=mutant.description,
        machine=machine,
        outcome=outcome,
        reason=reason,
        results=results,
    )


def write_machine(directory: Path, machine: str, argument: str) -> Path:
    """Write a machine file of the same name that boots with one more kernel argument; return its path."""
    base = load_machine(machine)
    path = directory / base.path.name
    args = [*base.kernel_args, argument]
    extended = {"purpose": base.purpose, "focus": [*base.focus], "extends": str(base.path), "kernel_args": args}
    path.write_text(yaml.safe_dump(extended), encoding="utf-8")
    return path

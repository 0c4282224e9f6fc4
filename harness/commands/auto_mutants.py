# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness mutants --auto``: do the cases notice small faults in the kernel's export path?

First each mutant runs by itself on a few cheap cases that reach its line, if a coverage run is at hand. Those that no
case noticed then share kernels, several in one, and run the whole suite. A kernel in which something was noticed is
split, until each of its mutants is judged: so a survivor costs a fraction of a run.
"""

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import __version__, kernel, paths
from harness.bugs.auto import AutoMutant, Sample, groups, mutants_of, patch_of, sample
from harness.bugs.equivalent import equivalents
from harness.cases.collect import collect
from harness.commands.children import Ended, Task, run_all
from harness.config.kernel_path import KernelPath, kernel_path
from harness.errors import UsageError
from harness.gcov.measure import KernelCoverage, measure
from harness.kernel.build.compile import ObjectCompiler
from harness.progress import Emit, Note, phase
from harness.report import RunDirectory
from harness.report.auto_mutants import AutoMutantRecord, AutoMutantsRecord, AutoOutcome, changed_case, write
from harness.report.text import summarise, tally
from harness.run.options import Options
from harness.verdict import CaseRecord, KernelRecord, RunRecord, Verdict

CONTROL = "control"
GROUP = 8
"""The most mutants that share a kernel."""
CHEAP_CASES = 10
"""The most cases of a mutant's first run."""


@dataclass(frozen=True)
class Selection:
    """Which mutants."""

    functions: Collection[str] = ()
    """Only mutants of these; empty: of the whole path."""
    count: int | None = None
    """How many are drawn; None: all."""
    seed: int = 0
    """The seed of the drawing."""


class _Queue:
    """The runs that wait. ``run_all`` asks again after each end, so a run may add others."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Task, list[AutoMutant]]] = deque()
        self.mutants: dict[str, list[AutoMutant]] = {}

    def add(self, task: Task, mutants: list[AutoMutant]) -> None:
        self._waiting.append((task, mutants))

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        if not self._waiting:
            raise StopIteration
        task, mutants = self._waiting.popleft()
        self.mutants[task.name] = mutants
        return task


def run_auto_mutants(
    options: Options, selection: Selection, coverage_runs: Sequence[Path], jobs: int, emit: Emit
) -> tuple[AutoMutantsRecord, Path]:
    """Draw the mutants, run them, and return the record and its directory.

    ``coverage_runs``: runs of FLAVOUR=coverage, which say what cases reach a line.
    Raises UsageError for an unknown function or a kernel without source, and what a kernel's build raises.
    """
    built = kernel.obtain(kernel.KernelSpec(options.kernel, options.flavour, options.change(emit)), emit)
    if built.source_dir is None:
        raise UsageError(f"{built.origin} has no source to make mutants of")
    path = kernel_path(built.release)
    reached = measure(coverage_runs, path) if coverage_runs else KernelCoverage()
    candidates = mutants_of(built.source_dir, path, selection.functions)
    with phase(emit, "sample", f"seed {selection.seed}") as step:
        compiler = ObjectCompiler(built.build_dir)
        drawn = sample(candidates, built.source_dir, compiler, count=selection.count, seed=selection.seed, jobs=jobs)
        step.result = (
            f"{len(drawn.mutants)} of {len(candidates)} mutants; {drawn.refused} do not compile without a warning, "
            f"{drawn.same} change no code"
        )
    sources = {mutant.file: (built.source_dir / mutant.file).read_bytes() for mutant in drawn.mutants}
    directory = RunDirectory(paths.results_dir())
    work = _Work(options, drawn, sources, reached, directory=directory.path, emit=emit)
    began = time.monotonic()
    with phase(emit, "mutants", directory.run_id) as step:
        control = work.run_control()
        emit(Note(f"control: {tally(control.summary)}"))
        run_all(work.first_runs(), jobs, work.ended_alone, lambda running: step.progress(work.progress(running)))
        run_all(work.shared_runs(), jobs, work.ended_shared, lambda running: step.progress(work.progress(running)))
        record = AutoMutantsRecord(
            run_id=directory.run_id,
            started=directory.started,
            duration_s=round(time.monotonic() - began, 1),
            harness=__version__,
            kernel=KernelRecord(release=built.release, origin=built.origin, config_hash=built.config_hash),
            seed=selection.seed,
            candidates=len(candidates),
            refused=drawn.refused,
            same=drawn.same,
            control=summarise(control.cases),
            mutants=work.records(path),
        )
        write(record, {name: text.decode(errors="replace").splitlines() for name, text in sources.items()}, directory)
        step.result = record.tally()
    return record, directory.path


class _Work:
    """The runs, and what has come of them so far."""

    def __init__(
        self,
        options: Options,
        drawn: Sample,
        sources: dict[str, bytes],
        reached: KernelCoverage,
        *,
        directory: Path,
        emit: Emit,
    ) -> None:
        self._options = options
        self._mutants = drawn.mutants
        self._sources = sources
        self._reached = reached
        self._directory = directory
        self._emit = emit
        self._judged: dict[str, AutoMutantRecord] = {}
        self._queue = _Queue()
        self._control: RunRecord | None = None
        self._nodes: dict[str, str] = {case.id: str(paths.TOP / case.where) for case in collect()}
        self._number = 0

    def run_control(self) -> RunRecord:
        """Run the whole suite without a mutant. Raises HarnessError if it ends without a record."""
        ended: list[Ended] = []
        task = Task(CONTROL, self._options, self._directory / CONTROL)
        run_all([task], 1, lambda task, end: ended.append(end))
        self._control = ended[0].require()
        return self._control

    @property
    def control(self) -> RunRecord:
        """The run without a mutant."""
        assert self._control is not None, "the control runs first"
        return self._control

    def first_runs(self) -> Iterator[Task]:
        """Queue a run for each mutant whose line some case reaches, on the cheapest of those cases."""
        seconds = {case.id: case.duration_s for case in self.control.cases}
        for mutant in self._mutants:
            function = self._reached.functions.get((mutant.file, mutant.edit.function))
            reaching = function.lines.get(mutant.edit.line, set()) if function else set()
            known = sorted(
                (case for case in reaching if case in self._nodes and case in seconds), key=seconds.__getitem__
            )
            if known:
                self._add([mutant], [self._nodes[case] for case in known[:CHEAP_CASES]])
        return iter(self._queue)

    def shared_runs(self) -> Iterator[Task]:
        """Queue the kernels that several of the remaining mutants share."""
        for group in groups([mutant for mutant in self._mutants if mutant.id not in self._judged], GROUP):
            self._add(group)
        return iter(self._queue)

    def _add(self, mutants: list[AutoMutant], cases: Sequence[str] = ()) -> None:
        self._number += 1
        name = f"{self._number:04}-{mutants[0].id}" + (f"+{len(mutants) - 1}" if len(mutants) > 1 else "")
        directory = self._directory / name
        directory.mkdir(parents=True)
        patch = directory / "mutants.patch"
        patch.write_text(patch_of(mutants, self._sources), encoding="utf-8", errors="surrogateescape")
        options = replace(self._options, series=str(patch), fail_fast=True)
        self._queue.add(Task(name, options, directory, cases), mutants)

    def ended_alone(self, task: Task, end: Ended) -> None:
        """Judge a mutant that ran by itself on a few cases: it is caught, or waits for the whole suite."""
        (mutant,) = self._queue.mutants[task.name]
        changed = changed_case(self.control, end.record) if end.record else None
        if changed:
            self._judge(mutant, AutoOutcome.CAUGHT, task, changed)

    def ended_shared(self, task: Task, end: Ended) -> None:
        """Judge the mutants of one kernel after the whole suite: none was noticed, or the kernel is split."""
        mutants = self._queue.mutants[task.name]
        changed = changed_case(self.control, end.record) if end.record else None
        complete = end.record is not None and len(end.record.cases) >= len(self.control.cases)
        if changed is None and complete:
            for mutant in mutants:
                self._judge(mutant, AutoOutcome.SURVIVED, task)
        elif len(mutants) > 1:
            middle = len(mutants) // 2
            self._add(mutants[:middle])
            self._add(mutants[middle:])
        elif changed:
            self._judge(mutants[0], AutoOutcome.CAUGHT, task, changed)
        else:
            self._judge(mutants[0], AutoOutcome.ERROR, task, reason=_why_incomplete(end))

    def _judge(
        self,
        mutant: AutoMutant,
        outcome: AutoOutcome,
        task: Task,
        changed: tuple[CaseRecord, CaseRecord] | None = None,
        *,
        reason: str = "",
    ) -> None:
        record = AutoMutantRecord(
            id=mutant.id,
            file=mutant.file,
            function=mutant.edit.function,
            line=mutant.edit.line,
            rule=mutant.edit.rule,
            description=mutant.description,
            outcome=outcome,
            reason=reason,
            results=task.name,
        )
        if changed:
            was, case = changed
            decided = {"case": case.id, "was": was.verdict, "verdict": case.verdict, "reason": case.reason}
            record = record.model_copy(update=decided)
        self._judged[mutant.id] = record
        self._emit(Note(str(record)))

    def progress(self, running: Sequence[Task]) -> str:
        """Return how many mutants are judged, and what runs."""
        return f"{len(self._judged)} of {len(self._mutants)} judged; {'; '.join(map(str, running))}"

    def records(self, path: KernelPath) -> list[AutoMutantRecord]:
        """Return the records in the order of the source; survivors that are known to be equivalent say so."""
        known = equivalents()
        order = {(file, name): at for at, (file, name) in enumerate((f, n) for f in path.files for n in path.files[f])}
        records = [
            record.model_copy(update={"outcome": AutoOutcome.EQUIVALENT, "reason": reason})
            if record.outcome is AutoOutcome.SURVIVED
            and (reason := known.get((record.file, record.function, record.rule, record.description)))
            else record
            for record in self._judged.values()
        ]
        return sorted(records, key=lambda record: (order[record.file, record.function], record.line, record.id))


def _why_incomplete(end: Ended) -> str:
    """Return what ended a run before its last case."""
    failed = next((case for case in end.record.cases if case.verdict is Verdict.ERROR), None) if end.record else None
    return failed.reason if failed else str(end.error or f"the run ended early, with exit code {end.code}")

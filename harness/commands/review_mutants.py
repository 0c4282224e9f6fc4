# SPDX-License-Identifier: GPL-2.0-only
"""The mutants of a review: faults in the changed lines that a case reaches, each run on the cases that reach it.

One kernel has them all, and a boot parameter turns one on. The run that counted the lines is the control. Each case
that notices a mutant runs once more without one: what it says there must be what it said in the control.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import kernel
from harness.bugs import load_bugs
from harness.bugs.auto import AutoMutant, of_file, sample
from harness.bugs.related import about
from harness.bugs.switched import SwitchedMutants, with_copies
from harness.cases.collect import Collected, collect
from harness.commands.auto_mutant_runs import MutantRuns, record_of
from harness.commands.auto_mutants import Judging
from harness.commands.children import Task, run_all
from harness.commands.mutant_cases import reaching
from harness.commands.review_lines import LineCounters, named
from harness.config import load_machine
from harness.gcov.counters import place_name
from harness.gcov.measure import KernelCoverage
from harness.kernel.build.compile import ObjectCompiler
from harness.progress import Emit, Note, Phase, phase
from harness.report.auto_mutants import AutoMutantRecord
from harness.report.outcomes import MutantOutcome, changed_cases
from harness.report.review import LineMutant
from harness.run.options import Options
from harness.verdict import KERNEL_AT_FAULT, RunRecord

SEED = 0
"""All mutants run, so their order makes no difference."""


@dataclass(frozen=True)
class Place:
    """Where cases have run on the changed kernel: a machine, with or without failing allocations."""

    options: Options
    record: RunRecord
    """The run that counted the lines."""

    @property
    def machine(self) -> str:
        """The machine's name."""
        return load_machine(self.options.machine).name

    def __str__(self) -> str:
        """Name the place."""
        return place_name(self.machine, fail_nth=self.options.fail_nth)


def mutants_of_lines(counters: LineCounters) -> list[AutoMutant]:
    """Return every mutant that changes a line which the change adds or rewrites, and which a case reaches."""
    found = []
    for file, text in counters.reviewed.sources.items():
        if not file.endswith(".c"):  # a copy of a header's function would be in each file that includes it
            continue
        reached = {line for line in counters.reviewed.changed[file] if _cases(counters, file, line)}
        names = sorted({counters.function(file, line) for line in reached} - {""})
        found += [mutant for mutant in of_file(file, text, names) if reached & {*_span(mutant, text)}]
    return found


def _cases(counters: LineCounters, file: str, line: int) -> set[str]:
    at = counters.counter(file, line)
    return set() if at is None else {named(case) for case in counters.lines[file][at]}


def _span(mutant: AutoMutant, text: bytes) -> range:
    """Return the lines that a mutant changes."""
    edit = mutant.edit
    return range(edit.line, edit.line + text.count(b"\n", edit.start, edit.end) + 1)


class ReviewMutants:
    """Makes the mutants, runs them, and keeps what came of them."""

    def __init__(self, counters: LineCounters, directory: Path, jobs: int, emit: Emit) -> None:
        self._counters = counters
        self._directory = directory
        self._jobs = jobs
        self._emit = emit
        self._sources = counters.reviewed.sources
        self.candidates = 0
        """How many mutants of the changed lines compile and change the code."""
        self._mutants: list[AutoMutant] = []
        self._uncopied: list[AutoMutant] = []
        """Mutants of functions of which no copy compiles."""
        self._judging: Judging | None = None
        self._places: Sequence[Place] = ()
        self._reached = KernelCoverage()

    def draw(self, build_dir: Path, most: int) -> int:
        """Choose mutants that compile and change the code; return how many.

        ``build_dir``: a build of the change. ``most``: more are not chosen."""
        found = mutants_of_lines(self._counters)
        with phase(self._emit, "mutants", f"{len(found)} of the changed lines") as step:
            compiler, jobs = ObjectCompiler(build_dir), len(os.sched_getaffinity(0))
            drawn = sample(found, self._sources, compiler, count=None, seed=SEED, jobs=jobs)
            self.candidates = len(drawn.mutants)
            chosen = spread_over_lines(drawn.mutants, most)
            self._uncopied = _uncopied(chosen, self._sources, compiler)
            left = [mutant for mutant in chosen if mutant not in self._uncopied]
            self._mutants = sorted(left, key=lambda each: (each.file, each.edit.start))
            step.result = (
                f"{len(chosen)} of {len(found)}; {drawn.refused} do not compile without a warning, "
                f"{drawn.same} change no code"
            )
        return len(self._mutants)

    def change(self) -> SwitchedMutants:
        """Return the change that puts all mutants into the kernel, switched off."""
        return SwitchedMutants(self._mutants)

    def run(self, built: kernel.Kernel, places: Sequence[Place]) -> None:
        """Run the mutants on the cases that reach their lines, place by place."""
        self._places = places
        self._reached = self._counters.as_coverage()
        texts = {name: text.decode(errors="replace").split("\n") for name, text in self._sources.items()}
        self._judging = judging = Judging(self._mutants, texts, places[0].options.machine)
        judging.skip_equivalents()
        collected = {case.id: case for case in collect()}
        with phase(self._emit, "mutants", f"{len(self._mutants)} on {built.release}") as step:
            for place in places:
                here = replace(place, options=replace(place.options, kernel=str(built.build_dir), no_counters=True))
                self._run_at(here, first=place is places[0], collected=collected, judging=judging, step=step)
            outcomes = [record.outcome for record in judging.records()]
            step.result = f"{outcomes.count(MutantOutcome.CAUGHT)} of {len(outcomes)} caught"

    def _run_at(
        self, place: Place, *, first: bool, collected: Mapping[str, Collected], judging: Judging, step: Phase
    ) -> None:
        waiting = judging.waiting(place.options, self._reached, everywhere=first)
        numbers = {mutant.id: number for number, mutant in enumerate(self._mutants)}
        unstable: set[str] = set()
        attempt = 0
        while waiting:
            attempt += 1
            name = f"{place.machine}{'-fail-nth' if place.options.fail_nth else ''}-{attempt}"
            runs = MutantRuns(
                place.options,
                waiting,
                numbers,
                self._sources,
                self._reached,
                collected=collected,
                directory=self._directory / name,
                control=place.record,
                unstable=unstable,
                likely=_likely({mutant.edit.function for mutant in waiting}, [case.id for case in place.record.cases]),
                emit=self._emit,
            )
            judging.run(runs, self._jobs, step)
            deceptive = self._deceptive(place, runs, collected, self._directory / f"{name}-control")
            unstable |= deceptive
            waiting = [each for each in waiting if runs.judged[each.id].case in deceptive]

    def _deceptive(
        self, place: Place, runs: MutantRuns, collected: Mapping[str, Collected], directory: Path
    ) -> set[str]:
        """Run the cases that noticed a mutant without one; return those that notice something all the same."""
        noticed = sorted({record.case for record in runs.judged.values() if record.case})
        if not noticed:
            return set()
        found: list[RunRecord] = []
        task = Task("control", place.options, directory, [collected[case].node for case in noticed])
        run_all([task], 1, lambda _, end: found.append(end.require()))
        again = {case.id for _, case in changed_cases(runs.control, found[0])}
        for case in sorted(again):
            self._emit(Note(f"left out on {place.machine}, since it differs without a mutant, too: {case}"))
        return again

    def judged(self) -> list[LineMutant]:
        """Return what came of each mutant: ERROR for one that was not judged."""
        why = "a copy of its function does not compile"
        records = [record_of(each, "", MutantOutcome.ERROR, why) for each in self._uncopied]
        records += map(self._with_mask, self._judging.records()) if self._judging else []
        spans = {each.id: _span(each, self._sources[each.file]) for each in [*self._mutants, *self._uncopied]}
        changed = self._counters.reviewed.changed
        return [
            _line_mutant(record, next(line for line in spans[record.id] if line in changed[record.file]))
            for record in records
        ]

    def _with_mask(self, record: AutoMutantRecord) -> AutoMutantRecord:
        """Return the record; that of a survivor which no case could notice as masked."""
        if record.outcome is not MutantOutcome.SURVIVED:
            return record
        mutant = next(each for each in self._mutants if each.id == record.id)
        verdicts = []
        for place in self._places:
            cases = reaching(mutant, self._reached, place.options)
            verdicts += [case.verdict for case in place.record.cases if case.id in cases]
        if not verdicts or any(verdict not in KERNEL_AT_FAULT for verdict in verdicts):
            return record
        reason = f"each case that reaches it blames the kernel without it, too: {len(verdicts)}"
        return record.model_copy(update={"outcome": MutantOutcome.MASKED, "reason": reason})


def _likely(functions: Collection[str], cases: Collection[str]) -> dict[str, list[str]]:
    """Return for each function the cases that show a bug of the catalogue in it."""
    bugs = load_bugs()
    shown_by = {name: about([name], bugs) for name in functions}
    return {
        name: [case for case in cases if any(bug.expects.concerns(case) for bug in own)]
        for name, own in shown_by.items()
    }


def spread_over_lines(mutants: Sequence[AutoMutant], most: int) -> list[AutoMutant]:
    """Choose at most so many mutants: one of each line, then a second one, and so on."""
    seen: Counter[tuple[str, int]] = Counter()
    ranked: list[tuple[int, int, AutoMutant]] = []
    for mutant in sorted(mutants, key=lambda each: (each.file, each.edit.start, each.id)):
        line = mutant.file, mutant.edit.line
        ranked.append((seen[line], len(ranked), mutant))
        seen[line] += 1
    # Of too many lines, take some of every function, not the first ones.
    ranked.sort(key=lambda each: each[:2])
    first = [each for each in ranked if each[0] == 0]
    if len(first) > most:
        return [first[at * len(first) // most][2] for at in range(most)]
    return [mutant for *_, mutant in ranked[:most]]


def _uncopied(
    mutants: Sequence[AutoMutant], sources: Mapping[str, bytes], compiler: ObjectCompiler
) -> list[AutoMutant]:
    """Return the mutants of functions that do not compile as copies, as ``SwitchedMutants`` makes them."""
    by_function: dict[tuple[str, str], list[AutoMutant]] = defaultdict(list)
    for mutant in mutants:
        by_function[mutant.file, mutant.edit.function].append(mutant)
    return [
        mutant
        for (file, _), group in by_function.items()
        if compiler.compile(file, with_copies(sources[file], [*enumerate(group)]), warnings=True) is None
        for mutant in group
    ]


def _line_mutant(record: AutoMutantRecord, line: int) -> LineMutant:
    return LineMutant(
        id=record.id,
        file=record.file,
        line=line,
        what=f"{record.description} ({record.rule})",
        outcome=record.outcome,
        case=record.case,
        machine=record.machine,
        reason=record.reason,
        results=record.results,
    )

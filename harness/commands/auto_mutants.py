# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness mutants --auto``: do the cases notice small faults in the kernel's export path?

One kernel has them all, and a boot parameter turns some on. They run on the machine of the options first. Those that
survive there, and are not known to be equivalent, run on each other machine on which a case reaches their line, several
at a time, and at last with failing allocations, if only those reach it and the kernel's flavour has failslab.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness import __version__, kernel, paths
from harness.bugs.auto import AutoMutant, Sample, mutants_of, sample, with_ids
from harness.bugs.equivalent import Key, equivalents, reason_for
from harness.bugs.switched import SwitchedMutants
from harness.cases.collect import collect
from harness.commands.auto_mutant_runs import MutantRuns, record_of
from harness.commands.mutant_cases import reaching
from harness.config import load_machine
from harness.config.kernel_path import KernelPath, kernel_path, require_functions
from harness.errors import UsageError
from harness.gcov.measure import KernelCoverage, measure, require_counters
from harness.kernel import SourceChange, SourceChanges
from harness.kernel.build.compile import ObjectCompiler
from harness.kernel.cache import cache_path, locked
from harness.progress import Emit, Phase, phase
from harness.report import RunDirectory
from harness.report.auto_mutants import AutoMutantRecord, AutoMutantsRecord, write
from harness.report.outcomes import MutantOutcome
from harness.run.fail_nth import listed_nodes
from harness.run.kernel_record import brief_record
from harness.run.options import Options

WORKSPACE = "mutants"


@dataclass(frozen=True)
class Selection:
    """Which mutants."""

    functions: Collection[str] = ()
    """Only mutants of these; empty: of the whole path."""
    count: int | None = None
    """How many are drawn; None: all."""
    seed: int = 0
    """The seed of the drawing."""
    survivors_of: AutoMutantsRecord | None = None
    """In place of a drawing: the mutants of this record that no case caught. The new record has its others too."""


def run_auto_mutants(
    options: Options, selection: Selection, coverage_runs: Sequence[Path], jobs: int, emit: Emit
) -> tuple[AutoMutantsRecord, Path]:
    """Draw the mutants, run them, and return the record and its directory.

    ``coverage_runs``: runs of FLAVOUR=coverage, which say what cases reach a line. They are of the same source.
    If it is interrupted, the record has the mutants that were judged, and the others as ERROR.
    Raises UsageError for an unknown function, a kernel without source, coverage or a record of another source, and what
    a kernel's build raises.
    """
    require_functions(selection.functions)  # now, because the kernel's build takes minutes
    for run in coverage_runs:
        require_counters(run)
    lock = cache_path("changed", WORKSPACE)
    with phase(emit, "mutants", "workspace") as step:
        held = ExitStack()
        held.enter_context(locked(lock, step))
    with held:
        return _run(options, selection, coverage_runs, jobs, emit)


def _obtain(options: Options, parts: Sequence[SourceChange], emit: Emit) -> kernel.Kernel:
    """Build in a workspace that no other run changes: every mutant's run boots from it."""
    spec = kernel.KernelSpec(options.kernel, options.flavour, SourceChanges(parts), WORKSPACE)
    return kernel.obtain(spec, emit)


def _check_same_source(reached: KernelCoverage, sources: Mapping[str, bytes]) -> None:
    for file, text in sources.items():
        if reached.sources.get(file, lines := text.decode(errors="replace").splitlines()) != lines:
            raise UsageError(
                f"the coverage is of another {file} than the kernel's", hint="run it with the same SERIES= and FIXED="
            )


def _run(
    options: Options, selection: Selection, coverage_runs: Sequence[Path], jobs: int, emit: Emit
) -> tuple[AutoMutantsRecord, Path]:
    change = options.change(emit)
    parts = [change] if change else []
    base = _obtain(options, parts, emit)
    path = kernel_path(base.release)
    reached = measure(coverage_runs, path) if coverage_runs else KernelCoverage()
    drawn, candidates = _draw(selection, base, jobs, emit)
    earlier = selection.survivors_of
    caught = [each for each in earlier.mutants if each.outcome is MutantOutcome.CAUGHT] if earlier else []
    files = {each.file for each in drawn.mutants} | {each.file for each in caught}
    sources = {file: (_source(base) / file).read_bytes() for file in files}
    _check_same_source(reached, sources)
    switched = _obtain(options, [*parts, SwitchedMutants(drawn.mutants)], emit)
    directory = RunDirectory(paths.results_dir())
    options = replace(
        options, kernel=str(switched.build_dir), series=None, mutation=None, fixed=False, no_counters=True
    )
    places = _places(options, reached, failing=switched.features["failslab"])
    texts = {name: text.decode(errors="replace").splitlines() for name, text in sources.items()}
    judging = Judging(drawn.mutants, texts, options.machine)
    if earlier:
        judging.skip_equivalents()
    numbers = {mutant.id: number for number, mutant in enumerate(drawn.mutants)}
    collected = {case.id: case for case in collect()}
    began = time.monotonic()
    with phase(emit, "mutants", directory.run_id) as step:
        try:
            for here in places:
                if waiting := judging.waiting(here, reached, everywhere=here is options):
                    runs = MutantRuns(
                        here,
                        waiting,
                        numbers,
                        sources,
                        reached,
                        collected=collected,
                        cases=listed_nodes() if here.fail_nth else (),
                        directory=directory.path / ("fail-nth" if here.fail_nth else load_machine(here.machine).name),
                        first_runs=here is options or here.fail_nth,
                        emit=emit,
                    )
                    judging.run(runs, jobs, step)
        finally:
            record = AutoMutantsRecord(
                run_id=directory.run_id,
                started=directory.started,
                duration_s=round(time.monotonic() - began, 1),
                harness=__version__,
                kernel=brief_record(base),
                seed=earlier.seed if earlier else selection.seed,
                candidates=candidates,
                refused=drawn.refused,
                same=drawn.same,
                survivors_of=earlier.run_id if earlier else "",
                control=judging.on[0].summary if judging.on else {},
                unstable=[case for runs in judging.on for case in runs.left_out()],
                mutants=_in_order([*caught, *judging.records()], path),
            )
            write(record, texts, directory)
        step.result = record.tally()
    return record, directory.path


class Judging:
    """What has come of each mutant so far, over the runs on all machines."""

    def __init__(self, mutants: Sequence[AutoMutant], texts: Mapping[str, Sequence[str]], machine: str) -> None:
        """``texts``: the lines of the files that they change. ``machine``: the first one."""
        self._mutants = mutants
        self._texts = texts
        self._machine = machine
        self._known = equivalents()
        self._judged: dict[str, AutoMutantRecord] = {}
        self.on: list[MutantRuns] = []
        """The runs on each machine."""

    def skip_equivalents(self) -> None:
        """Judge those that are known to be equivalent without a run."""
        for mutant in self._mutants:
            record = self._with_reason(record_of(mutant, self._machine, MutantOutcome.SURVIVED, ""))
            if record.outcome is MutantOutcome.EQUIVALENT:
                self._judged[mutant.id] = record

    def waiting(self, options: Options, reached: KernelCoverage, *, everywhere: bool) -> list[AutoMutant]:
        """Return those that are to run with these options.

        ``everywhere``: all that were not judged, else the survivors whose line a case reaches on the machine of the
        options, or only by failures."""
        if everywhere:
            return [mutant for mutant in self._mutants if mutant.id not in self._judged]
        survived = (each for each in self._mutants if self._judged[each.id].outcome is MutantOutcome.SURVIVED)
        return [mutant for mutant in survived if reaching(mutant, reached, options)]

    def run(self, runs: MutantRuns, jobs: int, step: Phase) -> None:
        """Run them on one machine, and keep what was judged, also if they are interrupted."""
        self.on.append(runs)
        try:
            runs.run(jobs, step)
        finally:
            self._judged |= {record.id: self._with_reason(record) for record in runs.judged.values()}

    def records(self) -> Iterator[AutoMutantRecord]:
        """Yield the record of each mutant: ERROR for one that was not judged."""
        for mutant in self._mutants:
            not_judged = record_of(mutant, self._machine, MutantOutcome.ERROR, "interrupted")
            yield self._judged.get(mutant.id, not_judged)

    def _with_reason(self, record: AutoMutantRecord) -> AutoMutantRecord:
        """Return the record; that of a survivor which is known to be equivalent with the reason."""
        key: Key = (record.file, record.function, record.rule, record.description)
        reason = reason_for(self._known, key, self._texts[record.file][record.line - 1])
        if record.outcome is not MutantOutcome.SURVIVED or not reason:
            return record
        return record.model_copy(update={"outcome": MutantOutcome.EQUIVALENT, "reason": reason})


def _source(base: kernel.Kernel) -> Path:
    assert base.source_dir is not None, "a changed kernel has a source"
    return base.source_dir


def _draw(selection: Selection, base: kernel.Kernel, jobs: int, emit: Emit) -> tuple[Sample, int]:
    """Return the mutants to run, and how many candidates there were."""
    source = _source(base)
    found = mutants_of(source, kernel_path(base.release), selection.functions)
    if earlier := selection.survivors_of:
        left = [each.id for each in earlier.mutants if each.outcome is not MutantOutcome.CAUGHT]
        return Sample(with_ids(found, left), earlier.refused, earlier.same), earlier.candidates
    with phase(emit, "sample", f"seed {selection.seed}") as step:
        compiler = ObjectCompiler(base.build_dir)
        texts = {file: (source / file).read_bytes() for file in {mutant.file for mutant in found}}
        drawn = sample(found, texts, compiler, count=selection.count, seed=selection.seed, jobs=jobs)
        step.result = (
            f"{len(drawn.mutants)} of {len(found)} mutants; {drawn.refused} do not compile without a warning, "
            f"{drawn.same} change no code"
        )
    return drawn, len(found)


def _places(options: Options, reached: KernelCoverage, *, failing: bool) -> list[Options]:
    """Return the options of each series of runs: the machine of ``options``, the others, and failing allocations."""
    first = load_machine(options.machine).name
    others = [replace(options, machine=machine, focus=True) for machine in sorted(reached.machines - {first})]
    return [options, *others, *([replace(options, fail_nth=True)] if failing else [])]


def _in_order(judged: Iterable[AutoMutantRecord], path: KernelPath) -> list[AutoMutantRecord]:
    """Return the records in the order of the source."""
    order = {(file, name): at for at, (file, name) in enumerate((f, n) for f in path.files for n in path.files[f])}
    return sorted(judged, key=lambda record: (order[record.file, record.function], record.line, record.id))

# SPDX-License-Identifier: GPL-2.0-only
"""The suite's own test: every bug of the catalogue, put back one at a time, is to be caught by the suite as a whole.

Each mutant is a ``vfio-harness run`` of its own, of all cases, those that its entry names first, until one blames the
kernel. Beside them goes the control: the same cases without any bug."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from harness import __version__, kernel, paths
from harness.bugs import Bug
from harness.cases.collect import Collected, collect
from harness.commands.bug_cases import node_ids, require_cases
from harness.commands.children import Ended, Task, run_all
from harness.config import DEFAULT_MACHINE, includes, load_machine
from harness.errors import MissingPrerequisite, UsageError
from harness.host.packages import find, install_line
from harness.progress import Emit, Note, Phase, phase
from harness.report import RunDirectory
from harness.report.mutants import (
    BadCase,
    ControlRecord,
    MutantOutcome,
    MutantRecord,
    MutantsRecord,
    bad_cases,
    judge_mutant,
    write,
)
from harness.report.text import tally
from harness.run.setup import Options
from harness.verdict import KernelRecord, Verdict

CONTROL = "control"
USUAL_S = 20.0
"""What a mutant takes, until one has been measured."""


def run(
    entries: Sequence[Bug], options: Options, jobs: int, emit: Emit, *, whole: bool = True
) -> tuple[MutantsRecord, Path]:
    """Run the mutants and the control on the kernel that ``options`` names; returns the record and its directory.

    ``whole``: the control is of the whole suite; else of the cases that the entries name.
    Raises UsageError if no entry has a mutation for this kernel, and what makes the kernel itself fail."""
    if not find("spatch"):
        raise MissingPrerequisite("spatch is not there, which puts bugs back", hint=install_line(["spatch"]))
    cases = collect()
    for entry in entries:
        require_cases(entry, cases)
    built = {f: kernel.obtain(kernel.KernelSpec(options.kernel, f), emit) for f in _flavours(entries)}
    base = next(iter(built.values()))
    meant = [entry for entry in entries if entry.mutation and includes(entry.mutation.kernels, base.release)]
    if not meant:
        raise UsageError(f"no mutation of what was named is for {base.release}", hint="vfio-harness bugs list")
    directory = RunDirectory(paths.results_dir())
    work = _Work(meant, cases, options, directory.path, jobs=jobs, emit=emit)
    with phase(emit, "mutants", f"{len(meant)} on {base.release}") as step:
        try:
            run_all(work.tasks(whole), jobs, work.ended, lambda running: work.tell(step, running))
        finally:
            found = MutantsRecord(
                run_id=directory.run_id,
                started=directory.started,
                duration_s=round(work.elapsed(), 1),
                harness=__version__,
                kernel=KernelRecord(release=base.release, origin=base.origin, config_hash=base.config_hash),
                summary={
                    outcome: sum(mutant.outcome is outcome for mutant in work.mutants) for outcome in MutantOutcome
                },
                controls=work.controls,
                mutants=sorted(work.mutants, key=lambda mutant: mutant.id),
                left_out=[entry.id for entry in entries if entry.mutation and entry not in meant],
            )
            write(found, directory)
        step.result = directory.run_id
    return found, directory.path


def _flavours(entries: Iterable[Bug]) -> list[kernel.Flavour]:
    return sorted({entry.flavour for entry in entries if entry.mutation}, reverse=True)


class _Work:
    """What is run, and what has come of it so far."""

    def __init__(
        self,
        entries: Sequence[Bug],
        cases: Sequence[Collected],
        options: Options,
        directory: Path,
        *,
        jobs: int,
        emit: Emit,
    ) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._places = {
            f"{CONTROL}-{Path(machine).stem}-{flavour}": (machine, flavour, list(group))
            for (machine, flavour), group in groupby(sorted(entries, key=_place), _place)
        }
        self._cases = cases
        self._choices = options
        self._directory = directory
        self._emit = emit
        self._jobs = jobs
        self.mutants: list[MutantRecord] = []
        self.controls: list[ControlRecord] = []
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def tasks(self, whole: bool) -> Iterable[Task]:
        """The control of each machine and flavour, then the mutants; those that touch the same files in a row, for
        less is compiled then."""
        for name, (machine, flavour, group) in self._places.items():
            everything = whole and (machine, flavour) == (DEFAULT_MACHINE, "release")
            run = replace(self._choices, machine=machine, flavour=flavour)
            yield Task(name, [*run.arguments(), *([] if everything else self._named(group))], self._directory / name)
        for entry in sorted(self._entries.values(), key=_files):
            run = replace(self._choices, machine=entry.machine, flavour=entry.flavour, mutation=entry.id)
            yield Task(entry.id, [*run.arguments(), "--fail-fast"], self._directory / entry.id)

    def _named(self, group: Iterable[Bug]) -> list[str]:
        return sorted({node for entry in group for node in node_ids(entry, self._cases, load_machine(entry.machine))})

    def ended(self, task: Task, end: Ended) -> None:
        """Judge what has ended, and say so."""
        if task.name in self._places:
            self.controls.append(control := self._control(task.name, end))
            said = f"{control.machine}, {control.flavour}: {tally(control.summary)}"
            for line in [f"{'control':<10} {end.seconds:6.1f} s  {said}", *map(str, control.bad)]:
                self._emit(Note(line))
        else:
            self.mutants.append(mutant := self._mutant(self._entries[task.name], end))
            self._emit(Note(str(mutant)))

    def _control(self, name: str, end: Ended) -> ControlRecord:
        machine, flavour, _ = self._places[name]
        bad = bad_cases(end.record) if end.record else [BadCase(verdict=Verdict.ERROR, reason=end.error)]
        summary = end.record.summary if end.record else {}
        return ControlRecord(
            machine=machine, flavour=flavour, summary=summary, bad=bad, seconds=round(end.seconds, 1), results=name
        )

    def _mutant(self, entry: Bug, end: Ended) -> MutantRecord:
        outcome, case = (
            judge_mutant(end.record.cases, entry.expects.verdict) if end.record else (MutantOutcome.ERROR, None)
        )
        return MutantRecord(
            id=entry.id,
            title=entry.title,
            machine=entry.machine,
            flavour=entry.flavour,
            expected=entry.expects.verdict,
            outcome=outcome,
            verdict=case.verdict if case else None,
            case=case.id if case else None,
            reason=case.reason if case else end.error,
            seconds=round(end.seconds, 1),
            results=entry.id,
        )

    def tell(self, step: Phase, running: Sequence[Task]) -> None:
        """How far it is, and how long it may still take."""
        done, total = len(self.mutants), len(self._entries)
        each = sum(mutant.seconds for mutant in self.mutants) / done if done else USUAL_S
        left = each * (total - done) / self._jobs / 60
        said = f"{done} of {total}, about {left:.0f} min left; {'; '.join(map(str, running))}"
        step.progress(said, done / total)


def _place(entry: Bug) -> tuple[str, kernel.Flavour]:
    return entry.machine, entry.flavour


def _files(entry: Bug) -> tuple[str, list[str], str]:
    return entry.flavour, entry.mutation.files if entry.mutation else [], entry.id

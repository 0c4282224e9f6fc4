# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness mutants`` without --auto and --model: the cases must catch each bug of the catalogue.

Each mutant is a ``vfio-harness run`` of the whole suite that stops at the first case that blames the kernel; the cases
that its entry names run first. The control runs the same cases on a kernel without a bug. A mutant is judged when its
control has ended too: a verdict that differs from the control's is noticed, even if it is better.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from harness import __version__, kernel, paths
from harness.bugs import Bug
from harness.cases.collect import Collected, collect
from harness.commands.bug_cases import nodes_of, require_cases
from harness.commands.children import Ended, Task, run_all
from harness.config import DEFAULT_MACHINE, includes, load_machine
from harness.errors import UsageError
from harness.host.packages import require
from harness.kernel import Flavour
from harness.progress import Emit, Note, Phase, phase
from harness.report import RunDirectory
from harness.report.mutants import (
    BadCase,
    ControlRecord,
    Decision,
    MutantRecord,
    MutantsRecord,
    bad_cases,
    judge_mutant,
    write,
)
from harness.report.outcomes import MutantOutcome
from harness.report.text import tally
from harness.run.kernel_record import brief_record
from harness.run.options import Options
from harness.verdict import Verdict

CONTROL = "control"
USUAL_S = 20.0
"""The estimated duration of a mutant before one has been measured, in seconds."""


def survivors_on(machine: str, entries: Sequence[Bug]) -> list[Bug]:
    """Return the entries that survive on a machine, as they are there.

    Raises UsageError for an unknown machine, and if there is no such entry.
    """
    load_machine(machine)
    if not (found := [entry.on(machine) for entry in entries if machine in entry.survives_on]):
        raise UsageError(f"no entry has {machine} in survives_on", hint="vfio-harness bugs list")
    return found


def run_mutants(
    entries: Sequence[Bug], options: Options, jobs: int, emit: Emit, *, whole: bool = True
) -> tuple[MutantsRecord, Path]:
    """Run the mutants and the controls on the kernel of ``options``; return the record and its directory.

    ``whole``: the default machine's control runs the whole suite, else the cases that the entries name.
    Raises UsageError if no entry has a mutation for this kernel, and what ``kernel.obtain`` raises.
    """
    require("spatch")
    cases = collect()
    for entry in entries:
        require_cases(entry, cases)
    built = {f: kernel.obtain(kernel.KernelSpec(options.kernel, f), emit) for f in _flavours(entries)}
    base = next(iter(built.values()))
    applicable = [entry for entry in entries if entry.mutation and includes(entry.mutation.kernels, base.release)]
    if not applicable:
        raise UsageError(f"no mutation of these bugs is for {base.release}", hint="vfio-harness bugs list")
    directory = RunDirectory(paths.results_dir())
    work = _Work(applicable, cases, options, directory.path, jobs=jobs, emit=emit)
    with phase(emit, "mutants", f"{len(applicable)} on {base.release}") as step:
        try:
            run_all(work.tasks(whole), jobs, work.ended, lambda running: work.show_progress(step, running))
        finally:
            found = MutantsRecord(
                run_id=directory.run_id,
                started=directory.started,
                duration_s=round(work.elapsed(), 1),
                harness=__version__,
                kernel=brief_record(base),
                summary={
                    outcome: sum(mutant.outcome is outcome for mutant in work.mutants) for outcome in MutantOutcome
                },
                controls=work.controls,
                mutants=sorted(work.mutants, key=lambda mutant: mutant.id),
                left_out=[entry.id for entry in entries if entry.mutation and entry not in applicable],
            )
            write(found, directory)
        step.result = directory.run_id
    return found, directory.path


def _flavours(entries: Iterable[Bug]) -> list[Flavour]:
    return sorted({entry.flavour for entry in entries if entry.mutation}, reverse=True)


class _Work:
    """The runs of the mutants and the controls, and their records so far."""

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
        self._controls = {
            f"{CONTROL}-{Path(machine).stem}-{flavour}": (machine, flavour, list(group))
            for (machine, flavour), group in groupby(sorted(entries, key=_control_key), _control_key)
        }
        self._cases = cases
        self._options = options
        self._directory = directory
        self._emit = emit
        self._jobs = jobs
        self.mutants: list[MutantRecord] = []
        self.controls: list[ControlRecord] = []
        self._control_ends: dict[tuple[str, Flavour], Ended] = {}
        self._waiting: list[tuple[Bug, Ended]] = []
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._began

    def tasks(self, whole: bool) -> Iterable[Task]:
        """Yield the control of each machine and flavour, then the mutants.

        Where bugs survive, the control is the whole suite: no case of it shows them.

        Mutants that change the same files follow each other, which saves compilation.
        """
        for name, (machine, flavour, group) in self._controls.items():
            default = (machine, flavour) == (DEFAULT_MACHINE, "release")
            everything = (whole and default) or any(entry.must_pass for entry in group)
            options = replace(self._options, machine=machine, flavour=flavour)
            yield Task(name, options, self._directory / name, [] if everything else nodes_of(group, self._cases))
        for entry in sorted(self._entries.values(), key=_build_key):
            options = replace(self._options, machine=entry.machine, flavour=entry.flavour, mutation=entry.id)
            mutant = replace(options, fail_fast=not entry.must_pass)
            yield Task(entry.id, mutant, self._directory / entry.id)

    def ended(self, task: Task, end: Ended) -> None:
        """Record a run that has ended, then judge and show each mutant whose control has ended too."""
        if task.name in self._controls:
            machine, flavour, _ = self._controls[task.name]
            self._control_ends[machine, flavour] = end
            self.controls.append(control := self._control(task.name, end))
            summary = f"{control.machine}, {control.flavour}: {tally(control.summary)}"
            for line in [f"{'control':<10} {end.seconds:6.1f} s  {summary}", *map(str, control.bad)]:
                self._emit(Note(line))
        else:
            self._waiting.append((self._entries[task.name], end))
        ready = [waiting for waiting in self._waiting if _control_key(waiting[0]) in self._control_ends]
        for entry, mutant_end in ready:
            self._waiting.remove((entry, mutant_end))
            self.mutants.append(mutant := self._mutant(entry, mutant_end))
            self._emit(Note(str(mutant)))

    def _control(self, name: str, end: Ended) -> ControlRecord:
        machine, flavour, _ = self._controls[name]
        bad = bad_cases(end.record) if end.record else [BadCase(verdict=Verdict.ERROR, reason=str(end.error or ""))]
        summary = end.record.summary if end.record else {}
        return ControlRecord(
            machine=machine, flavour=flavour, summary=summary, bad=bad, seconds=round(end.seconds, 1), results=name
        )

    def _mutant(self, entry: Bug, end: Ended) -> MutantRecord:
        found = Decision(MutantOutcome.ERROR)
        if end.record:
            control = self._control_ends[_control_key(entry)].record
            found = judge_mutant(end.record, entry.expects.verdict, control)
        return MutantRecord(
            id=entry.id,
            title=entry.title,
            machine=entry.machine,
            flavour=entry.flavour,
            expected=entry.expects.verdict,
            outcome=found.outcome,
            verdict=found.case.verdict if found.case else None,
            case=found.case.id if found.case else None,
            was=found.was.verdict if found.was else None,
            reason=found.case.reason if found.case else str(end.error or ""),
            seconds=round(end.seconds, 1),
            results=entry.id,
        )

    def show_progress(self, step: Phase, running: Sequence[Task]) -> None:
        """Show how many mutants have ended, and an estimate of the time left."""
        seconds = [*(mutant.seconds for mutant in self.mutants), *(end.seconds for _, end in self._waiting)]
        done, total = len(seconds), len(self._entries)
        each = sum(seconds) / done if done else USUAL_S
        minutes = each * (total - done) / self._jobs / 60
        step.progress(f"{done} of {total}, about {minutes:.0f} min left; {'; '.join(map(str, running))}", done / total)


def _control_key(entry: Bug) -> tuple[str, Flavour]:
    return entry.machine, entry.flavour


def _build_key(entry: Bug) -> tuple[str, list[str], str]:
    return entry.flavour, entry.mutation.files if entry.mutation else [], entry.id

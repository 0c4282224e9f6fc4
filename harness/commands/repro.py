# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness repro``: show one bug of the catalogue, and a control without it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from harness import kernel, paths
from harness.bugs import Bug, Mutation, MutationError, load_bug
from harness.bugs.shown import shows
from harness.cases.collect import collect
from harness.commands.bug_cases import node_ids
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.config import load_machine
from harness.errors import HarnessError, KernelError
from harness.escape import printable
from harness.kernel.source.resolve import release_of, resolve_kernel
from harness.progress import Emit, phase
from harness.report import RunDirectory, Terminal
from harness.report.text import one_line, repeat_command
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.verdict import BAD, KERNEL_AT_FAULT, CaseRecord, RunRecord, Verdict

MAX_EVIDENCE = 25
"""Lines of evidence that are printed; the report has all."""


@click.command()
@click.argument("name", metavar="ID")
@takes_options("repro", from_make=True)
def repro(name: str, **values: Any) -> None:
    """Show one bug of the catalogue, and a control without it.

    Runs the cases of the bug on both kernels. The exit code is 0 if the bug shows as expected and the control passes, 1
    if not, 2 for wrong usage, and 3 if the harness or the host failed or the mutation does not fit the kernel.
    """
    entry = load_bug(name)
    options = Options(**{"machine": entry.machine, "flavour": entry.flavour, **given(values)})
    with Terminal({}) as terminal:
        found = reproduce(entry, options, terminal.emit)
    click.echo(str(found))
    sys.exit(found.exit_code)


@dataclass(frozen=True)
class Sides:
    """The two kernels that run."""

    bad: Options
    """Has the bug, unless the bug was refuted."""
    control: Options | None
    """Lacks the bug; None if no such kernel is known."""
    why: str = ""
    """Why there is no control."""


def sides(entry: Bug, options: Options, release: str, default_release: str) -> Sides:
    """Choose the two kernels for an entry.

    ``release`` is that of the kernel that ``options`` names, ``default_release`` that of the pinned one.
    """
    if entry.must_pass:
        return Sides(options, None, "none: it was refuted, and the cases that guard against it must pass")
    if entry.mutation and not entry.is_in(release):
        return Sides(replace(options, mutation=entry.id), options)
    if fix := entry.fix_path:
        shown = fix.relative_to(Path.cwd()) if fix.is_relative_to(Path.cwd()) else fix
        return Sides(options, replace(options, series=str(shown)))
    if entry.kernels and not entry.is_in(default_release):
        return Sides(options, replace(options, kernel=None))
    return Sides(options, None, "none: the entry has neither a fix nor a kernel that lacks the bug")


@dataclass(frozen=True)
class Reproduction:
    """The runs on both kernels."""

    entry: Bug
    sides: Sides
    bad: RunRecord
    control: RunRecord | None
    """None if there is no control."""
    directory: Path

    @property
    def shown_by(self) -> CaseRecord | None:
        """The first case that shows the bug as the entry says; of a refuted bug, the first case that passes."""
        return next((case for case in self.bad.cases if shows(self.entry, case)), None)

    def complaints(self) -> list[str]:
        """Return why this is no reproduction; empty if it is one."""
        expects = self.entry.expects
        found = [f"{case.id} is {case.verdict} on the control: {case.reason}" for case in self._unclean()]
        if self.shown_by is None:
            reason = f" with {expects.reason.pattern!r}" if expects.reason.pattern else ""
            found.append(f"no case is {expects.verdict}{reason}")
        elif self.entry.must_pass:
            found += [f"{case.id} is {case.verdict}" for case in self.bad.cases if case.verdict in KERNEL_AT_FAULT]
        return found

    def _unclean(self) -> Iterator[CaseRecord]:
        """Yield the control's cases that are bad, show this bug, or are skipped where the other kernel shows it."""
        shown = self.shown_by.id if self.shown_by else ""
        for case in self.control.cases if self.control else ():
            skipped = case.verdict is Verdict.SKIP and case.id == shown
            own = case.verdict is Verdict.KNOWN and case.known_issue == self.entry.id
            if case.verdict in BAD or own or skipped:
                yield case

    @property
    def exit_code(self) -> int:
        """0 if the bug is reproduced, 1 if not, 3 if the harness or the host is the cause."""
        if not self.complaints():
            return 0
        cases = [*self.bad.cases, *(self.control.cases if self.control else ())]
        return HarnessError.exit_code if any(case.verdict is Verdict.ERROR for case in cases) else 1

    def __str__(self) -> str:
        """Format both verdicts of each case, the evidence, and the commands that repeat it."""
        entry = self.entry
        lines = [
            f"{entry.id}: {entry.title}",
            f"  reported by {entry.reporter}, {entry.date}: {entry.thread}",
            f"  {self._with_it:7}  {_kernel(self.bad)}",
            f"  control  {_kernel(self.control) if self.control else self.sides.why}",
            "",
            *self._table(),
        ]
        if (case := self.shown_by) and not self.entry.must_pass:
            lines += ["", f"{case.id}: {case.verdict}", *(f"  {line}" for line in printable(case.reason).splitlines())]
            left_out = len(case.evidence) - MAX_EVIDENCE
            lines += [f"  ... {left_out} more in the report"] if left_out > 0 else []
            lines += [
                f"  {item.t:8.3f} s  {item.source:<8}{one_line(item.text)}" for item in case.evidence[-MAX_EVIDENCE:]
            ]
            lines.append(f"  again: {repeat_command(case, self.sides.bad.again_settings())}")
            if self.sides.control:
                lines.append(f"  control: {repeat_command(case, self.sides.control.again_settings())}")
        lines += ["", *(f"not as expected: {complaint}" for complaint in self.complaints())]
        expected = "as it was refuted" if self.entry.must_pass else "reproduced"
        ended = "not as expected" if self.complaints() else expected
        lines.append(f"{ended}; {self.directory}/*/latest/report.html")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        control = {case.id: case.verdict for case in self.control.cases} if self.control else {}
        width = max(len(case.id) for case in self.bad.cases)
        rows = (f"{case.id:{width}}  {control.get(case.id, '-'):7}  {_verdict(case)}" for case in self.bad.cases)
        return [f"{'case':{width}}  {'control':7}  {self._with_it}", *rows]

    @property
    def _with_it(self) -> str:
        """The heading of the kernel under test, which has no bug if the bug was refuted."""
        return "kernel" if self.entry.must_pass else "with it"


def _verdict(case: CaseRecord) -> str:
    return f"{case.verdict} ({case.known_issue})" if case.known_issue else str(case.verdict)


def _kernel(record: RunRecord) -> str:
    return f"{record.kernel.release}, {record.kernel.origin}, on {record.machine}"


def reproduce(entry: Bug, options: Options, emit: Emit) -> Reproduction:
    """Run the entry's cases on both kernels in parallel.

    ``options`` name the kernel and machine with the bug; without a kernel, it is the entry's.

    Raises UsageError for wrong options or a wrong entry, KernelError for a kernel that does not build, and
    MutationError for a mutation that does not apply or compile.
    """
    if options.kernel is None and entry.mutation is None:
        options = replace(options, kernel=entry.kernel)
    machine = load_machine(options.machine)
    cases = node_ids(entry, collect(), machine)
    spec = kernel.KernelSpec(options.kernel, options.flavour, arch=machine.arch)
    base = kernel.obtain(spec, emit)  # both kernels start from its build
    pinned = resolve_kernel(None, emit)
    chosen = sides(entry, options, base.release, release_of(pinned.path))
    if chosen.bad.mutation and base.source_dir:
        Mutation.of(entry).files(base.source_dir)  # raises its errors before the runs
    held = RunDirectory(paths.results_dir())  # `prune` leaves the directory alone while this exists
    directory = held.path
    runs = {"control": chosen.control, "with-it": chosen.bad}
    ended: dict[str, Ended] = {}
    with phase(emit, "repro", entry.id) as step:
        run_all(
            [Task(name, run, directory / name, cases) for name, run in runs.items() if run],
            jobs=2,
            on_end=lambda task, end: ended.update({task.name: end}),
            on_tick=shown_in(step),
        )
        step.result = directory.name
    control = ended["control"].require() if chosen.control else None
    with_it = ended["with-it"]
    if chosen.bad.mutation and not with_it.record and with_it.code == KernelError.exit_code:
        raise MutationError(f"mutation {entry.id} does not compile: {with_it.error}")
    return Reproduction(entry, chosen, with_it.require(), control, directory)

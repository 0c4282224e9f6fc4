# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness audit``: which known fixes a kernel has, by its behaviour.

Each fix names bugs of the catalogue, and each bug the cases that show it. They run on the kernel. A fix whose cases
pass counts as present only if they are known to catch the bug: it is put back into the same kernel, and they run again.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness import __version__, paths
from harness.bugs import Bug, Mutation, MutationError
from harness.bugs.known_fixes import KnownFix, known_fixes, unmerged_fixes
from harness.bugs.shown import Finding, FixState, combine, hidden, judge_absence, prove, settle, trust
from harness.cases.collect import Collected, collect
from harness.cases.contract import runs_on
from harness.commands.bug_cases import nodes_of
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.config import includes, load_machine
from harness.errors import HarnessError, KernelError
from harness.host.packages import require
from harness.kernel import KernelSpec, obtain
from harness.kernel.source.resolve import BuildDirectory, resolve_kernel
from harness.progress import Emit, phase
from harness.report import RunDirectory, Terminal
from harness.report.audit import AuditedBug, AuditRecord, FixRecord, to_json, write
from harness.report.record import write_report
from harness.run.kernel_record import brief_record
from harness.run.options import Options
from harness.run.read_options import given, takes_options


@click.command()
@click.argument("kernel_name", metavar="[KERNEL]", required=False)
@click.option("--unmerged", is_flag=True, help="Also ask for the catalogue's own patches, which are not upstream.")
@click.option("--no-proof", is_flag=True, help="Do not put bugs back into this kernel: trust the catalogue's cases.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@takes_options("audit", from_make=True)
def audit(
    kernel_name: str | None, kernel: str | None, unmerged: bool, no_proof: bool, as_json: bool, **values: Any
) -> None:
    """List the known fixes that KERNEL has, by its behaviour.

    KERNEL is a source tree, a build directory, a commit (PATH@REF or git:URL@REF) or debian:VERSION; without it, the
    pinned kernel. A fix is missing if a case shows its bug, and present if the cases that show the bug pass. They must
    be known to catch it: if the kernel has a source tree, each such bug is put back into it, and its cases run again.
    Without one, and with --no-proof, the catalogue is trusted. Where behaviour cannot be judged, the reason is given.

    The exit code is 0 if no fix is missing, 1 if one is, 2 for wrong usage, and 3 if the harness or the host failed.
    """
    if kernel_name and kernel:
        raise click.UsageError(f"two kernels: {kernel_name} and --kernel {kernel}")
    options = Options(**given(values), kernel=kernel_name or kernel)
    with Terminal({}, to_stderr=as_json) as terminal:
        record, where = run_audit(options, terminal.emit, unmerged=unmerged, proof=not no_proof)
    click.echo(to_json(record) if as_json else f"{record}\n{record.tally()}; {where / 'audit.json'}", nl=not as_json)
    sys.exit(HarnessError.exit_code if record.failed else int(record.summary[FixState.MISSING] > 0))


def run_audit(options: Options, emit: Emit, *, unmerged: bool, proof: bool) -> tuple[AuditRecord, Path]:
    """Audit the kernel of ``options``; return the record and its directory.

    Raises UsageError for wrong options or a wrong entry, and what ``kernel.obtain`` raises.
    """
    began = time.monotonic()
    fixes = [*known_fixes(), *(unmerged_fixes() if unmerged else ())]
    cases = collect()
    found = resolve_kernel(options.kernel, emit)
    base = obtain(KernelSpec(options.kernel, "release", options.change(emit)), emit)
    # A build directory may be of another commit than its source has now, so nothing is concluded from that source.
    source = None if isinstance(found, BuildDirectory) else base.source_dir
    lacking = {str(fix.fix): fix.fix.lacking(source) for fix in fixes} if source else {}
    directory = RunDirectory(paths.results_dir())
    work = _Work(fixes, cases, options, directory.path)
    with phase(emit, "audit", f"{len(fixes)} fixes on {base.release}") as step:
        run_all(work.tasks(), options.jobs or 1, work.ended, shown_in(step))
        work.judge()
        if source and proof:
            require("spatch")
            tasks = list(work.proofs(base.release, source))
            step.done(f"the cases have run; {len(tasks)} bugs are put back")
            run_all(
                tasks,
                options.jobs or 1,
                work.proved,
                shown_in(step, "put back: "),
            )
        step.result = directory.run_id
    records = [work.record(fix, lacking.get(str(fix.fix), "")) for fix in fixes]
    order = list(FixState)
    record = AuditRecord(
        run_id=directory.run_id,
        started=directory.started,
        duration_s=round(time.monotonic() - began, 1),
        harness=__version__,
        kernel=brief_record(base),
        summary={state: sum(each.state == state for each in records) for state in order},
        failed=work.failed,
        fixes=sorted(records, key=lambda each: order.index(FixState(each.state))),
    )
    write(record, directory)
    return record, directory.path


class _Work:
    """The runs of an audit, and what they say of each bug."""

    def __init__(
        self, fixes: Sequence[KnownFix], cases: Sequence[Collected], options: Options, directory: Path
    ) -> None:
        self._bugs = {bug.id: bug for fix in fixes for bug in fix.bugs}
        self._cases = cases
        self._options = options
        self._directory = directory
        self._places = {_name(bug): bug for bug in self._bugs.values()}
        self._ended: dict[str, Ended] = {}
        self._findings: dict[str, Finding] = {}
        self.failed: list[str] = []
        """Runs that ended without a record, if the kernel is not at fault."""

    def tasks(self) -> Iterator[Task]:
        """Yield a run for each machine and flavour, of the cases of its bugs."""
        for name, first in self._places.items():
            own = [bug for bug in self._bugs.values() if _name(bug) == name]
            options = replace(self._options, machine=first.machine, flavour=first.flavour)
            yield Task(name, options, self._directory / name, nodes_of(own, self._cases))

    def ended(self, task: Task, end: Ended) -> None:
        """Keep a run that has ended."""
        self._ended[task.name] = end
        self._keep_error(task, end)

    def _keep_error(self, task: Task, end: Ended) -> None:
        if end.record is None and not isinstance(end.error, KernelError):
            self.failed.append(f"{task.name}: {end.error}")

    def judge(self) -> None:
        """Judge each bug by its cases."""
        for bug in self._bugs.values():
            machine = load_machine(bug.machine)
            expected = [case.id for case in self._cases if bug.expects.concerns(case.id) and runs_on(case, machine)]
            end = self._ended[_name(bug)]
            cases = end.record.cases if end.record else []
            self._findings[bug.id] = judge_absence(bug, expected, cases, str(end.error or ""))
        self._findings = {name: hidden(found, self._findings) for name, found in self._findings.items()}

    def proofs(self, release: str, source: Path) -> Iterator[Task]:
        """Yield a run with the bug put back for each bug whose cases pass; judge those that cannot be put back."""
        for bug in sorted(self._bugs.values(), key=lambda bug: (bug.flavour, bug.machine, bug.id)):
            if self._findings[bug.id].state is not FixState.PRESENT:
                continue
            if bug.mutation is None or bug.is_in(release):
                why = f"by the catalogue, kernels {bug.kernels} show the bug"
                self._findings[bug.id] = trust(self._findings[bug.id], why)
                continue
            options = replace(self._options, machine=bug.machine, flavour=bug.flavour)
            try:
                changed = self._put_back(bug, release, source, options)
            except MutationError as error:
                self._findings[bug.id] = prove(self._findings[bug.id], bug, None, str(error))
                continue
            yield Task(bug.id, changed, self._directory / bug.id, nodes_of([bug], self._cases))

    def _put_back(self, bug: Bug, release: str, source: Path, options: Options) -> Options:
        """Return the options of a run with the bug. Raises MutationError if it cannot be put back into the source.

        On a release that the entry does not name, the mutation is tried all the same, as a patch."""
        mutation = Mutation.of(bug)
        if includes(mutation.data.kernels, release):
            mutation.files(source)
            return replace(options, mutation=bug.id)
        if options.series:
            raise MutationError(f"mutation {bug.id} is for kernels {mutation.data.kernels}, and a series is applied")
        patch = self._directory / f"{bug.id}.patch"
        write_report(patch, mutation.for_any_release().as_patch(source))
        return replace(options, series=str(patch))

    def proved(self, task: Task, end: Ended) -> None:
        """Confirm or withdraw a finding by the run with the bug put back."""
        self._keep_error(task, end)
        cases = end.record.cases if end.record else None
        bug = self._bugs[task.name]
        self._findings[bug.id] = prove(self._findings[bug.id], bug, cases, str(end.error or ""))

    def record(self, fix: KnownFix, lacking: str) -> FixRecord:
        """Return what is known of a fix. ``lacking``: the code that the kernel's source lacks."""
        findings = [settle(self._findings[bug.id]) for bug in fix.bugs]
        found = combine(findings) if findings else Finding(FixState.NOT_JUDGED, fix.why)
        if lacking and found.state is not FixState.MISSING:
            found = Finding(FixState.NOT_APPLICABLE, lacking)
        return FixRecord(
            commit=fix.fix.commit,
            subject=fix.fix.subject,
            state=found.state,
            reason=found.reason,
            proof=found.proof,
            pick=fix.pick,
            bugs=[
                AuditedBug(id=bug.id, machine=bug.machine, state=each.state, reason=each.reason, cases=list(each.cases))
                for bug, each in zip(fix.bugs, findings, strict=True)
            ],
        )


def _name(bug: Bug) -> str:
    """Name the run of the cases of a bug: machine and flavour."""
    return f"{Path(bug.machine).stem}-{bug.flavour}"

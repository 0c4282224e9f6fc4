# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness kvm-test``: run cases under KVM, in an emulated machine that has it."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness import config, image, kernel, paths, vm
from harness.cases.collect import node_id_of
from harness.commands.children import ERROR, error_written_to, read_error
from harness.commands.run import Cases
from harness.errors import HarnessError, UsageError
from harness.nested import image as outer_image
from harness.nested import job, outer, recipe, results
from harness.nested.shares import links, shares
from harness.progress import Emit, Note
from harness.report import RunDirectory, Terminal
from harness.report.merge import merge
from harness.report.text import counted
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.verdict import KERNEL_AT_FAULT, RunRecord, Verdict, exit_code

DEADLINE_S = 1140.0
"""From the start of the outer machine to its end. With the rest it stays below 20 minutes."""
SHORT_DEADLINE_S = 600.0
"""For ``--short``, which takes 2 minutes on an idle host, and 8 on one that shares two processors among ten VMs."""
LEAVE_S = 150.0
"""Of the deadline, what is left for the boot, the end of an interrupted run, and the results."""
ATTEMPTS = 3
"""How often the outer machine is started, if its own kernel crashes."""
LEAST_S = 240.0
"""What must be left of the deadline for another start."""
AGAIN_S = 60.0
"""What the cases that are not required leave of the deadline to a second run of those with ERROR, beside LEAVE_S."""
LEAST_AGAIN_S, LEAVE_AGAIN_S = 150.0, 60.0
"""LEAST_S and LEAVE_S of that run, which has few cases."""
RESULTS = Path("/results")
"""In the outer machine: its init writes this directory to the disk."""
REQUIRED, REST, AGAIN = "required", "rest", "again"
INTERRUPTED = (130, 143)
"""The exit codes of a run that its deadline ended, and of one that SIGTERM found before it could catch that."""


@click.command(name="kvm-test")
@takes_options("kvm-test", from_make=True)
@click.argument("cases", nargs=-1, type=Cases())
@click.option("--short", is_flag=True, help="Run only two cases: one doorbell and one revoke.")
@click.option("--deadline", type=click.IntRange(min=120), metavar="SECONDS",
              help="Stop after this time.  [default: 1140, with --short 600]")  # fmt: skip
def kvm_test(cases: tuple[str, ...], short: bool, deadline: int | None, **values: Any) -> None:
    """Run cases under KVM, in an emulated machine that has it.

    The kernel of that outer machine is Debian's, with kvm_amd. In it, the harness chooses its accelerator, and must
    choose KVM. First it runs the cases that vm-configs/kvm-test.yaml requires, then others as time allows. With -k or
    CASES, which are files, directories or pytest's node ids, it runs only those. Cases with ERROR run once more.

    The exit code is that of the runs inside: 0 if the contract held, 1 if the kernel is at fault, 2 for wrong usage,
    and 3 if the harness or the host failed, KVM was not chosen, or a required case was not judged in time.
    """
    options = Options(**given(values))
    if short and (cases or options.expression):
        raise UsageError("--short has two cases of its own", hint="leave out --short, or -k and CASES")
    seconds = float(deadline or (SHORT_DEADLINE_S if short else DEADLINE_S))
    with error_written_to(options.error_file), Terminal(options.again_settings()) as terminal:
        code = run_under_kvm(options, terminal.emit, seconds, [*map(absolute, cases)], short=short)
    sys.exit(code)


def run_under_kvm(options: Options, emit: Emit, deadline_s: float, cases: Sequence[str], *, short: bool) -> int:
    """Run the cases in the outer machine; return the exit code. Raises HarnessError and its subclasses."""
    began = time.monotonic()
    test = recipe.load()
    machine = config.load_machine(options.machine)
    machine = machine.model_copy(update={"qemu": machine.qemu or test.qemu})
    qemu = vm.Qemu.for_machine(machine, options.qemu, emit)
    vm.settle(machine, qemu)
    outer.require_9p(qemu)
    built = kernel.obtain(kernel.KernelSpec(kernel=options.kernel, flavour=options.flavour), emit)
    image.obtain(emit).agent()  # the harness inside finds both in the cache
    machine_image = outer_image.obtain(test.outer.image, emit)
    directory = RunDirectory(paths.results_dir(), options.run_directory)
    inside = inner_options(options, built, qemu, test.cpu_features)
    runs = [*planned(inside, test, cases, short=short)]
    seen = shares([qemu.path.parent, *source_of(built)])
    emit(Note(f"outer machine  {qemu.banner}, tcg, {test.outer.cpu}"))
    nested = outer.OuterMachine(with_room_for(machine, test.outer), machine_image, qemu)
    end = time.monotonic() + deadline_s
    found: list[tuple[Path, RunRecord]] = []

    def run(runs: Sequence[job.Run], files: Path, leave_s: float) -> RunRecord:
        """Make these runs in an outer machine, whose own files go into ``files``. Report all runs so far in one record.

        Any verdict of a case counts before ERROR.
        """

        def attempt(directory: Path, seconds: float) -> Path:
            text = job.script(seen, links(), environment(), runs, int(seconds - leave_s))
            return nested.run(outer.Job(job.archive(text), seen, seconds), directory, lambda line: emit(Note(line)))

        disk = run_again_if_crashed(attempt, files, end - time.monotonic(), emit)
        try:
            results.unpack(disk, directory.path)
        finally:
            disk.unlink()
        found.extend(judged(directory.path, runs, emit))
        record = merge(found, directory.path, directory.run_id)
        directory.write(record, options.again_settings(), "kvm-test")
        return record

    def second(again: job.Run) -> RunRecord:
        return run([again], directory.path / AGAIN, LEAVE_AGAIN_S)

    first = run(runs, directory.path, LEAVE_S + (AGAIN_S if len(runs) > 1 else 0))
    record = with_errors_again(first, inside, end - time.monotonic(), second, emit)
    emit(Note(f"{time.monotonic() - began:.0f} s; {directory.path / 'report.html'}"))
    return exit_code([case.verdict for case in record.cases])


def absolute(case: str) -> str:
    """Return a file, a directory or a node id with its path from the root: the outer machine has it there, too."""
    path, separator, name = case.partition("::")
    return f"{Path(path).resolve()}{separator}{name}"


def run_again_if_crashed(
    attempt: Callable[[Path, float], Path], directory: Path, deadline_s: float, emit: Emit
) -> Path:
    """Return what ``attempt`` returns, given a directory and its deadline in seconds.

    If the outer machine's own kernel crashes, which says nothing about the kernel under test, it starts again while at
    least ``LEAST_S`` are left. Raises what ``attempt`` raises.
    """
    end = time.monotonic() + deadline_s
    for number in range(1, ATTEMPTS):
        try:
            return attempt(directory / f"outer-{number}", end - time.monotonic())
        except outer.OuterCrashedError as error:
            if end - time.monotonic() < LEAST_S:
                raise
            emit(Note(f"{error}; it starts again"))
    return attempt(directory / f"outer-{ATTEMPTS}", end - time.monotonic())


def with_room_for(machine: config.MachineConfig, machine_around: recipe.Outer) -> recipe.Outer:
    """Return the outer machine with memory for the machine under test, and for its peer."""
    peer = machine.peer.memory_mib if machine.peer else 0
    return machine_around.model_copy(update={"memory_mib": machine_around.memory_mib + machine.memory_mib + peer})


def source_of(built: kernel.Kernel) -> list[Path]:
    """Return the directories of the kernel's source: it may be a tree of links to another."""
    top = built.source_dir
    return [top, (top / "Makefile").resolve().parent] if top else []


def inner_options(options: Options, built: kernel.Kernel, qemu: vm.Qemu, cpu_features: str) -> Options:
    """Return the options of the runs inside. They find the kernel in the cache: nothing is fetched or built there."""
    named = options.kernel
    if named and not named.startswith("debian:"):
        named = str(built.build_dir)
    features = options.cpu_features or cpu_features
    return replace(
        options,
        kernel=named,
        qemu=str(qemu.path),
        cpu_features=features,
        emulated_kvm=True,
        run_directory=None,
        error_file=None,
    )


def planned(inside: Options, test: recipe.KvmTest, cases: Sequence[str], *, short: bool) -> Iterator[job.Run]:
    """Yield the runs inside, in their order. ``cases``: what the user has named."""
    files = sorted(path.name for path in paths.VM_CASES.glob("test_*.py"))
    chosen = cases or (files if inside.expression else ())
    yield _run(REQUIRED, inside, test.short if short else chosen or test.required)
    if not short and not chosen and not inside.required:
        required = {case.partition("::")[0] for case in test.required}
        yield _run(REST, inside, [name for name in files if name not in required])


def with_errors_again(
    record: RunRecord, inside: Options, left_s: float, second: Callable[[job.Run], RunRecord], emit: Emit
) -> RunRecord:
    """Return the record after a second run of its cases with ERROR; as it is if there are none.

    ``left_s``: what is left of the deadline. ``second`` makes the run and returns the new record. If that raises
    HarnessError, the verdicts of the first run stay.
    """
    again = run_of_errors(record, inside)
    if not again:
        return record
    errors = f"{counted(record.summary[Verdict.ERROR], 'case')} with ERROR"
    if left_s < LEAST_AGAIN_S:
        emit(Note(f"{errors}: no time is left to run it once more"))
        return record
    emit(Note(f"{errors}: once more, in a new outer machine"))
    try:
        return second(again)
    except HarnessError as error:
        emit(Note(f"{AGAIN}: {error}"))
        return record


def run_of_errors(record: RunRecord, inside: Options) -> job.Run | None:
    """Return the second run of the cases that are ERROR; None if there are none."""
    errors = [case.id for case in record.cases if case.verdict is Verdict.ERROR]
    return _run(AGAIN, inside, [node_id_of(name) for name in errors]) if errors else None


def _run(name: str, inside: Options, cases: Sequence[str | Path]) -> job.Run:
    own = ["--jobs=1", f"--run-directory={RESULTS / name}", f"--error-file={RESULTS / name / ERROR}"]
    program = (sys.executable, "-P", "-m", "harness", "run")
    return job.Run(name, [*program, *own, *inside.arguments(), *(paths.VM_CASES / case for case in cases)])


def environment() -> dict[str, str]:
    """Return the variables of the runs inside."""
    return {
        "HOME": str(Path.home()),
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "PYTHONIOENCODING": "ascii:backslashreplace",  # what is no ASCII on the outer machine's console is escaped
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "VFIO_HARNESS_CACHE": str(paths.cache_dir()),
        "VFIO_HARNESS_RESULTS": str(RESULTS),
    }


def judged(directory: Path, runs: Sequence[job.Run], emit: Emit) -> Iterator[tuple[Path, RunRecord]]:
    """Yield the directory and the record of each run that has judged cases.

    Raises HarnessError for runs that prove nothing.
    """
    for run in runs:
        path = directory / run.name
        ended = results.read(path)
        if ended is None or ended.record is None:
            if run.name == REQUIRED:
                raise _no_record(path, ended)
            emit(Note(f"{run.name}: {_no_record(path, ended) if ended else 'no case was judged in time'}"))
            continue
        if ended.record.host.accel != "kvm":
            raise HarnessError(f"the run inside did not choose KVM: {ended.record.host.accel_reason}")
        verdicts = [case.verdict for case in ended.record.cases]
        if ended.code in INTERRUPTED:
            if run.name == REQUIRED and not any(verdict in KERNEL_AT_FAULT for verdict in verdicts):
                raise HarnessError(f"the deadline ended the required cases after {len(verdicts)}", hint="--deadline")
        elif ended.code != exit_code(verdicts):
            raise HarnessError(f"{run.name}: the exit code of the run inside, {ended.code}, does not fit its verdicts")
        emit(Note(f"{run.name}: {counted(len(verdicts), 'case')} under KVM in {ended.record.duration_s:.0f} s"))
        yield path, ended.record


def _no_record(directory: Path, ended: results.Ended | None) -> HarnessError:
    with suppress(OSError, ValueError, KeyError, TypeError):  # what the machine wrote may be anything
        if error := read_error(directory / ERROR):
            return type(error)(f"inside: {error}", hint=error.hint)
    code = f"exit code {ended.code}" if ended else "it never started"
    kind = UsageError if ended and ended.code == UsageError.exit_code else HarnessError
    return kind(
        f"the run inside ended before its first case ({code})", hint=f"see the last outer-* in {directory.parent}"
    )

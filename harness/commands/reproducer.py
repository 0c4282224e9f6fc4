# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness reproducer``: one C file that shows a bug as the guest's only program."""

import io
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import click

from harness import paths
from harness.bugs import load_bug
from harness.bugs import reproducer as file_of
from harness.commands.reproducer_check import check_all, chosen_bugs
from harness.config import matches
from harness.errors import UsageError
from harness.progress import Emit, Note, phase
from harness.report import RunDirectory, Terminal
from harness.report.record import load
from harness.reproducer.boot import boot
from harness.reproducer.generate import About, program
from harness.reproducer.outcome import Outcome
from harness.reproducer.steps import judged_steps
from harness.reproducer.steps import load as load_steps
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.run.setup import Setup
from harness.verdict import CaseRecord, RunRecord, exit_code


@click.group()
def reproducer() -> None:
    """Make and run C programs that show a bug on their own."""


@reproducer.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("case")
@click.option("--name", help="The bug's name in the file.  [default: the known issue's, else the case's]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The C file.  [default: NAME.c]")
@click.option("--tar", is_flag=True, help="Write NAME.tar.gz, too: the file, the kernel's config, QEMU's command.")
def make(run: Path, case: str, name: str | None, output: Path | None, tar: bool) -> None:
    """Make the C file of a CASE that failed in RUN, a run's directory or report.json.

    CASE is the case's id; * matches any text. The exit code is 2 if no C program can repeat the case.
    """
    record = load(run)
    chosen = _chosen(record, case, run)
    directory = run if run.is_dir() else run.parent
    name = name or chosen.known_issue or _plain(chosen.id)
    source = output or Path(f"{name}.c")
    text = _written(record, chosen, directory, name)
    _write(source, text.encode())
    click.echo(source)
    if tar:
        packed = source.with_suffix(".tar.gz")
        _write(packed, _pack(name, text, record, chosen, directory))
        click.echo(packed)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="-o names another file") from None


def _chosen(record: RunRecord, pattern: str, run: Path) -> CaseRecord:
    """Return the case that the user names. UsageError if it is not exactly one, or has no recording."""
    found = [case for case in record.cases if matches([pattern], case.id) or case.id == pattern]
    if len(found) != 1:
        known = ", ".join(case.id for case in found or record.cases if case.recording) or "none"
        raise UsageError(f"{run}: {len(found)} cases are {pattern!r}", hint=f"with a recording: {known}")
    if not found[0].recording:
        raise UsageError(f"{run}: {found[0].id} has no recording: it is {found[0].verdict}, or of an older harness")
    return found[0]


def _plain(case_id: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", case_id.removeprefix("test_")).strip("-")


def _written(record: RunRecord, case: CaseRecord, directory: Path, name: str) -> str:
    about = About(
        name=name,
        title=load_bug(name).title if _is_bug(name) else case.title,
        case=case.id,
        kernel=record.kernel.release,
        machine=record.machine,
        reason=case.reason,
    )
    assert case.recording
    return program(judged_steps(load_steps(directory / case.recording), case.reason), about)


def _pack(name: str, text: str, record: RunRecord, case: CaseRecord, directory: Path) -> bytes:
    """Return a tarball with the program and what repeats it."""
    files = {f"{name}.c": text.encode(), "README": _readme(name, record, case).encode()}
    build, git = record.kernel.build, record.kernel.git
    if build and build.config:
        files["kernel.config"] = (directory / build.config).read_bytes()
    if case.ran_in and (command := directory / case.ran_in / "command").is_file():
        files["qemu-command"] = command.read_bytes()
    if git:
        files["commit"] = f"{git.commit} {git.describe} {git.url}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, data in files.items():
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _readme(name: str, record: RunRecord, case: CaseRecord) -> str:
    patches = "".join(f"  patch    {patch}\n" for patch in record.kernel.patches)
    return (
        f"{case.id}: {case.verdict}\n  {case.reason}\n\n"
        f"  kernel   {record.kernel.release}, {record.kernel.origin}\n{patches}"
        f"  machine  {record.machine}, QEMU {record.host.qemu}\n\n"
        f"cc -static -o init {name}.c makes the guest's only program. kernel.config is the kernel's\n"
        "configuration, and qemu-command how the case's machine was started. Replace its root drive by an image\n"
        "with the program as /init and empty directories dev, proc, sys, tmp and kernel, and add init=/init to the\n"
        f"kernel's command line. `vfio-harness reproducer run {name}.c` does that.\n"
    )


@reproducer.command()
@takes_options("reproducer run")
@click.argument("source", metavar="FILE|ID")
def run(source: str, **values: Any) -> None:
    """Boot a machine whose only program is FILE, or the reproducer of a bug, and print its verdict.

    The exit code is 0 for PASS and SKIP, 1 if the kernel is at fault, and 3 if the program did not get that far.
    """
    path = _source(source)
    options = Options(**{**_of_its_bug(path.stem), **given(values)})
    with Terminal({}) as terminal:
        found = run_alone(path, options, terminal.emit)
    sys.exit(exit_code([found.verdict]))


@reproducer.command()
@takes_options("reproducer check")
@click.argument("names", metavar="[ID]...", nargs=-1)
def check(names: tuple[str, ...], **values: Any) -> None:
    """Run each reproducer of the catalogue, or those of these bugs, with the bug and without it.

    The exit code is 0 if each shows its bug and passes without it, 1 if not, and 3 if one did not get that far.
    """
    options = Options(**given(values))
    with Terminal({}) as terminal:
        checked = []
        for each in check_all(chosen_bugs(names), options, run_alone, terminal.emit):
            checked.append(each)
            terminal.emit(Note(str(each)))
    for each in checked:
        click.echo(each)
    sys.exit(max((each.exit_code for each in checked), default=0))


def _of_its_bug(name: str) -> dict[str, Any]:
    """Return the machine and the flavour that show the bug of this name; nothing if there is no such bug."""
    if not _is_bug(name):
        return {}
    bug = load_bug(name)
    return {"machine": bug.machine, "flavour": bug.flavour}


def _is_bug(name: str) -> bool:
    return (paths.bugs_dir() / f"{name}.yaml").is_file()


def _source(name: str) -> Path:
    """Return the C file that the user names, by its path or by its bug. UsageError if there is none."""
    if (path := Path(name)).suffix == ".c" and path.is_file():
        return path
    if found := file_of(name):
        return found
    known = ", ".join(sorted(path.stem for path in paths.bugs_dir().glob("*.c"))) or "none"
    raise UsageError(f"{name}: no such C file, and no bug with a reproducer", hint=f"with one: {known}")


def run_alone(source: Path, options: Options, emit: Emit) -> Outcome:
    """Boot the machine of ``options`` with the program alone. Raises the errors of a build and of a boot."""
    setup = Setup.prepare(options, emit)
    if setup.machine.peer is not None:
        raise UsageError(f"{setup.machine.path}: a reproducer has no second VM")
    held = RunDirectory(paths.results_dir())
    with phase(emit, "alone", source.name) as step:
        found = boot(
            source,
            setup.boot_files(),
            setup.machine_of,
            setup.machine.architecture,
            held.path,
        )
        step.result = str(found.verdict)
    for line in found.lines:
        emit(Note(line))
    emit(Note(f"{found.verdict}  {source.name} on {setup.kernel.release} ({setup.kernel.origin}): {found.reason}"))
    return found

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness``: thin. Each command parses what was typed and hands it to the room that does it."""

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from harness import __version__, bugs, paths
from harness.cases import contract as coverage
from harness.cases.suites import DEFAULT_SUITE
from harness.commands import bench, doctor, mutants, new, repro, shell
from harness.commands import bisect as bisection
from harness.commands import check_bugs as check
from harness.commands.base_vs_series import base_vs_series as versus
from harness.config import DEFAULT_MACHINE, machines_as_json, machines_as_text
from harness.errors import HarnessError, UsageError
from harness.kernel import Flavour
from harness.progress import Note
from harness.report import Terminal, compare, load
from harness.run import exit_codes, known_issues, plugin
from harness.run.parallel import FrontEnd
from harness.run.setup import Options, Setup

ACCEL = click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True)
QEMU = click.option(
    "--qemu", type=click.Path(path_type=Path), help="QEMU's binary.  [default: $QEMU, or the one in PATH]"
)
CHOICES = (
    click.option(
        "--machine", default=DEFAULT_MACHINE, show_default=True, help="A name in vm-configs/, or a YAML file."
    ),
    click.option("--kernel", help="Source tree, build directory or debian:VERSION.  [default: the pinned kernel]"),
    click.option("--flavour", type=click.Choice(["release", "debug"]), default="release", show_default=True),
    ACCEL,
    QEMU,
    click.option("--series", help="Patches to apply first: an mbox, a directory, a patch, or a message-id for b4."),
    click.option("--mutation", metavar="ID", help="Put this bug of vm-configs/bugs back into the kernel."),
    click.option("--gdb", type=int, metavar="PORT", help="QEMU's gdb stub on 127.0.0.1:PORT."),
)


def takes_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make up a Options, which it gets as its first argument."""

    @functools.wraps(command)
    def collect(**given: Any) -> None:
        chosen = Options(**{name: given.pop(name) for name in plugin.CHOICES if name in given})
        command(chosen, **given)

    for option in reversed(CHOICES):
        collect = option(collect)
    return collect


class Cases(click.Path):
    """A file or directory that is there, or a case in it as pytest names it: ``test_cmb.py::test_cmb_write``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the file's name."""
        path, separator, name = str(value).partition("::")
        return f"{click.Path(exists=True).convert(path, param, ctx)!s}{separator}{name}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Validates Linux's vfio-pci dma-buf export in QEMU guests."""


@cli.command()
@takes_choices
@click.option("-k", "expression", metavar="EXPR", help="Only the cases whose name matches, as pytest's -k.")
@click.option("--suite", default=DEFAULT_SUITE, show_default=True, help="The cases of this suite.")
@click.option("--seed", type=int, default=plugin.new_seed, help="What the dice of its races are thrown from.")
@click.option("--focus", is_flag=True, help="Only what the machine names as its focus in the contract.")
@click.option("-x", "--fail-fast", is_flag=True, help="Stop at the first case that blames the kernel, or us.")
@click.option("--jobs", type=click.IntRange(1), help="Machines at once.  [default: one for each processor]")
@click.option("--base-vs-series", is_flag=True, help="Run the kernel without --series, too, and report what differs.")
@click.option("--bisect", "bisecting", is_flag=True, help="Exit codes for `git bisect run`: see below.")
@click.option("--show-command", is_flag=True, help="Print QEMU's command line, and run nothing.")
@click.argument("cases", nargs=-1, type=Cases())
def run(
    options: Options,
    *,
    expression: str | None,
    focus: bool,
    fail_fast: bool,
    jobs: int | None,
    base_vs_series: bool,
    bisecting: bool,
    show_command: bool,
    cases: tuple[str, ...],
) -> None:
    """Run the cases (default: all of tests/vm) against a kernel. CASES are files, directories or pytest's node ids.

    Exit code: 0 the contract held, 1 the kernel is at fault, 2 wrong usage, 3 the harness or the host failed.
    With --base-vs-series: 1 if the series breaks a case. With --bisect: 125 if the kernel does not build or can show
    none of the cases, and over 127, at which git-bisect stops, for 2 and 3.
    """
    with Terminal(options.make_variables(), to_stderr=show_command) as terminal:
        if show_command:
            click.echo(shell.command_line(Setup.prepare(options, terminal.emit)))
            return
        arguments = ["-k", expression] if expression else []
        arguments += ["--focus"] if focus else []
        arguments += ["--fail-fast"] if fail_fast else []
        if base_vs_series:
            found, directory = versus(options, [*arguments, *cases], terminal.emit)
            click.echo(f"{found}\n{directory / compare.REPORT}")
            sys.exit(found.exit_code)
        arguments += ["--bisect"] if bisecting else []
        arguments += ["--capture=no", "-p", "no:cacheprovider", "--override-ini=addopts=", *options.arguments()]
        front_end = FrontEnd(terminal, jobs)
        code = pytest.main([*arguments, *(cases or [str(paths.VM_CASES)])], [front_end])
        if front_end.interrupted:
            raise KeyboardInterrupt
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise UsageError(
                f"no case matches -k {expression!r}" if expression else "there is no case in what was named"
            )
    sys.exit(UsageError.exit_code if code == pytest.ExitCode.USAGE_ERROR else code)


@cli.command(name="shell", context_settings={"allow_interspersed_args": False})  # COMMAND's options are its own
@takes_choices
@click.argument("command", nargs=-1)
def shell_(options: Options, command: tuple[str, ...]) -> None:
    """Boot the machine and give a shell in the guest, or run COMMAND there."""
    with Terminal(options.make_variables()) as terminal:
        setup = Setup.prepare(options, terminal.emit)
    sys.exit(shell.interact(setup, command))


@cli.command(name="bench")
@takes_choices
def bench_(options: Options) -> None:
    """Measure boot-to-agent-ready against the kernel's own floor; writes results/bench.json."""
    with Terminal(options.make_variables()) as terminal:
        result = bench.measure(Setup.prepare(options, terminal.emit), terminal.emit)
    result.write(paths.results_dir() / "bench.json")
    click.echo(result)


@cli.command(name="doctor")
@takes_choices
def doctor_(options: Options) -> None:
    """Show every prerequisite with the fix for what is missing; with --kernel, also what that kernel can do."""
    with Terminal(options.make_variables()) as terminal:
        code = doctor.examine(options, terminal.emit)
    sys.exit(code)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The whole entries, for machines.")
def known(as_json: bool) -> None:
    """List the known issues: bugs that are live in released kernels, each with the cases that show it."""
    issues = known_issues.catalogue()
    click.echo(known_issues.as_json(issues) if as_json else known_issues.as_text(issues))


@cli.group(name="bugs")
def bugs_() -> None:
    """The catalogue of reported bugs, each of which the cases can show."""


@bugs_.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="The whole entries, for machines.")
def bugs_list(as_json: bool) -> None:
    """List the bugs: who reported each, on which kernels it is, and what it makes of which cases."""
    click.echo(bugs.as_json(bugs.load_bugs()) if as_json else bugs.as_text(bugs.load_bugs()))


@bugs_.command(name="show")
@click.argument("name", metavar="ID")
def bugs_show(name: str) -> None:
    """Show all that is known of one bug, and the change that puts it back."""
    click.echo(bugs.as_yaml(bugs.load_bug(name)))


@bugs_.command(name="check")
@click.option("--kernel", help="Source tree or debian:VERSION.  [default: the pinned kernel]")
@click.option("--compile", "build", is_flag=True, help="Build each, too.")
@click.argument("names", metavar="[ID]...", nargs=-1)
def bugs_check(kernel: str | None, build: bool, names: tuple[str, ...]) -> None:
    """See that each mutation applies to the kernel's source, and changes the functions it names. Exit code 3 if not."""
    entries = [bugs.load_bug(name) for name in names] or bugs.load_bugs()
    bad = 0
    with Terminal({}) as terminal:
        for finding in check.check(entries, kernel, build=build, emit=terminal.emit):
            terminal.emit(Note(str(finding)))
            bad += not finding.good
        terminal.emit(Note(f"{len(entries)} entries, {bad} ERROR"))
    sys.exit(HarnessError.exit_code if bad else 0)


@cli.command(name="repro")
@click.argument("name", metavar="ID")
@click.option("--kernel", help="Source tree or debian:VERSION.  [default: the entry's, else the pinned kernel]")
@click.option("--machine", help="[default: the entry's]")
@click.option("--flavour", type=click.Choice(["release", "debug"]), help="[default: the entry's]")
@ACCEL
@QEMU
def repro_(name: str, machine: str | None, flavour: Flavour | None, **given: Any) -> None:
    """Show one bug of the catalogue: its cases on a kernel that has it, beside the same on one that does not.

    Exit code: 0 the control passes and the bug shows as expected, 1 not so, 2 wrong usage, 3 the harness or the host
    failed, or the mutation does not fit the kernel.
    """
    entry = bugs.load_bug(name)
    options = Options(machine=machine or entry.machine, flavour=flavour or entry.flavour, **given)
    with Terminal({}) as terminal:
        found = repro.reproduce(entry, options, terminal.emit)
    click.echo(str(found))
    sys.exit(found.exit_code)


@cli.command(name="mutants")
@click.option("--only", multiple=True, metavar="ID", help="Only this one; may be given more than once.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="How many run at a time.")
@click.option("--kernel", help="Source tree or debian:VERSION.  [default: the pinned kernel]")
@click.option("--flavour", type=click.Choice(["release", "debug"]), help="[default: the entries']")
@ACCEL
@QEMU
def mutants_(only: tuple[str, ...], jobs: int, flavour: Flavour | None, **given: Any) -> None:
    """Put every bug of the catalogue back, one at a time, and see that the suite catches it.

    Exit code: 0 all are caught with the verdict that their entries name, and a clean kernel passes; 1 one survived, or
    shows otherwise, or the clean kernel does not pass; 2 wrong usage; 3 the harness, the host or a mutation failed.
    """
    entries = [bugs.load_bug(name) for name in dict.fromkeys(only)] or bugs.load_bugs()
    entries = [entry.model_copy(update={"flavour": flavour or entry.flavour}) for entry in entries]
    with Terminal({}) as terminal:
        found, directory = mutants.run(entries, Options(**given), jobs, terminal.emit, whole=not only)
    click.echo(f"{found.tally()}; {directory / 'mutants.html'}")
    sys.exit(found.exit_code)


@cli.command(name="bisect")
@click.argument("good")
@click.argument("bad")
@click.option("-k", "expression", required=True, metavar="EXPR", help="The cases that judge, as pytest's -k.")
@click.option("--tree", type=click.Path(path_type=Path), default=".", show_default=True, help="The kernel's git tree.")
@click.option("--machine", default=DEFAULT_MACHINE, show_default=True)
@click.option("--flavour", type=click.Choice(["release", "debug"]), default="release", show_default=True)
@ACCEL
@QEMU
@click.option("--suite", default=DEFAULT_SUITE, show_default=True)
@click.option("--seed", type=int, default=plugin.new_seed, help="What the dice of races are thrown from.")
@click.option("--series", help="Patches to apply to every commit first.")
def bisect_(good: str, bad: str, expression: str, tree: Path, **given: Any) -> None:
    """Find the first commit between GOOD and BAD on which a case is bad, by git-bisect. The tree is left alone.

    Commits that do not build, or can show none of the cases, are skipped. Exit code: 0 found, 1 not reproducible (GOOD
    is bad, BAD is good, or only skipped commits are left), 2 wrong usage, 3 the harness or the host failed.
    """
    with Terminal({}) as terminal:
        found = bisection.bisect(tree, (good, bad), Options(**given), ["-k", expression], terminal.emit)
    click.echo(found)
    sys.exit(found.exit_code)


@cli.command(name="compare")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare_(before: Path, after: Path) -> None:
    """Show what differs between two runs, BEFORE and AFTER: directories of results/, or report.json files.

    Exit code: 1 if a case is broken, 3 if one could not be judged, else 0."""
    found = compare.compare(load(before), load(after))
    click.echo(found)
    sys.exit(found.exit_code)


@cli.command(name="coverage")
@click.option("--json", "as_json", is_flag=True, help="Every row with its cases, for machines.")
def coverage_(as_json: bool) -> None:
    """List the contract's rows with the cases that cover each. Exit code 1 if a row has neither case nor reason."""
    rows = coverage.coverage()
    click.echo(coverage.as_json(rows) if as_json else coverage.as_text(rows))
    sys.exit(any(row.missing for row in rows.values()))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def machines(as_json: bool) -> None:
    """List the machines of vm-configs/: what each is for, and what it lacks."""
    click.echo(machines_as_json() if as_json else machines_as_text())


cli.add_command(new.command)


def main() -> None:
    """The console script. SIGTERM and SIGHUP end a run as Ctrl-C does: with everything cleaned up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    bisecting = "--bisect" in sys.argv
    try:
        code = cli.main(standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except HarnessError as error:
        Terminal({}).failure(error)
        code = exit_codes.code_of_error(error) if bisecting else error.exit_code
    except click.ClickException as error:
        error.show()
        code = UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: everything that was started is gone", err=True)
        code = 128 + signal.SIGINT
    except Exception:
        if not bisecting:
            raise
        traceback.print_exc()
        code = HarnessError.exit_code
    sys.exit(exit_codes.safe(int(code or 0)) if bisecting else code)

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness run``: run cases against a kernel."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pytest

from harness import paths
from harness.cases.collect import pytest_arguments
from harness.commands.base_vs_series import base_vs_series
from harness.commands.children import error_written_to
from harness.errors import UsageError
from harness.report import Terminal
from harness.report.compare import REPORT
from harness.run.options import Options
from harness.run.parallel import CommandLineRun
from harness.run.read_options import given, takes_options
from harness.run.setup import Setup


class Cases(click.Path):
    """An existing file or directory, or one of its cases by pytest's name: ``test_cmb.py::test_cmb_write``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that the file exists."""
        path, separator, name = str(value).partition("::")
        return f"{click.Path(exists=True).convert(path, param, ctx)!s}{separator}{name}"


@click.command()
@takes_options("run", from_make=True)
@click.argument("cases", nargs=-1, type=Cases())
def run(cases: tuple[str, ...], **values: Any) -> None:
    """Run the cases against a kernel; by default all of tests/vm.

    CASES are files, directories or pytest's node ids.

    The exit code is 0 if the contract held, 1 if the kernel is at fault, 2 for wrong usage, and 3 if the harness or the
    host failed. With --base-vs-series it is 1 if the series breaks a case. With --bisect it is 125 if the kernel does
    not build or every case is skipped, and above 127, where git-bisect stops, instead of 2 and 3.
    """
    options = Options(**given(values))
    with error_written_to(options.error_file):
        code = _run(options, cases)
    sys.exit(code)


def _run(options: Options, cases: tuple[str, ...]) -> int:
    if options.until_fail and options.repeat == 1:
        raise UsageError("--until-fail stops repetitions", hint="add --repeat N")
    with Terminal(options.again_settings(), to_stderr=options.show_command, every_case=options.verbose) as terminal:
        if options.show_command:
            click.echo(command_line(Setup.prepare(options, terminal.emit)))
            return 0
        if options.base_vs_series:
            found, directory = base_vs_series(options, cases, terminal.emit)
            click.echo(f"{found}\n{directory / REPORT}")
            return found.exit_code
        return run_cases(options, cases, terminal)


def run_cases(options: Options, cases: tuple[str, ...], terminal: Terminal) -> int:
    """Run the cases in this process and its workers; return the exit code.

    Raises HarnessError for what ends the run before its first case, and KeyboardInterrupt.
    """
    arguments = ["--capture=no", *pytest_arguments()]
    arguments += ["-k", options.expression] if options.expression else []
    plugin = CommandLineRun(options, terminal)
    code = pytest.main([*arguments, *(cases or [str(paths.VM_CASES)])], [plugin])
    if plugin.interrupted:
        raise KeyboardInterrupt
    if plugin.error:
        raise plugin.error
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        named = f"-k {options.expression!r} matches no case" if options.expression else "CASES contains no case"
        raise UsageError(named, hint="vfio-harness coverage --json lists the cases")
    return UsageError.exit_code if code == pytest.ExitCode.USAGE_ERROR else int(code)


def command_line(setup: Setup) -> str:
    """Return the shell commands that boot the setup's machine."""
    with tempfile.TemporaryDirectory() as rundir:
        return f"mkdir -p {rundir}\n{setup.machine_in(Path(rundir)).shell_command()}"

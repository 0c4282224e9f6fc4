# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness doctor``: every prerequisite of host and kernel, with the fix for the missing ones."""

import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from harness import config, kernel, vm
from harness.commands.doctor_finding import Finding
from harness.commands.doctor_platforms import platform_findings
from harness.errors import HarnessError
from harness.host.packages import prerequisites
from harness.progress import Emit, silent
from harness.report import Terminal
from harness.run.options import Options
from harness.run.read_options import given, takes_options


@click.command()
@takes_options("doctor", from_make=True)
def doctor(**values: Any) -> None:
    """Show every prerequisite, with the fix for the missing ones.

    Each platform is listed with what it needs: KVM, other QEMUs, other architectures. None is required. A machine
    (--machine) of another architecture than the host's also needs a cross compiler. With --kernel, also show which
    features that kernel has. The exit code is 3 if the host lacks a required prerequisite.
    """
    options = Options(**given(values))
    config.load_machine(options.machine)  # a mistake in it is an error here, too
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with Terminal(options.again_settings()) as terminal:
        found = [*findings(options, terminal.emit)]
    code = report(iter(found), console)
    if options.kernel is not None:
        with Terminal(options.again_settings()) as terminal:
            spec = kernel.KernelSpec(options.kernel, options.flavour, arch=config.load_machine(options.machine).arch)
            built = kernel.obtain(spec, terminal.emit)
        print_features(console, built)
    sys.exit(code)


def findings(options: Options, emit: Emit = silent) -> Iterator[Finding]:
    """Check every prerequisite. A problem with QEMU does not hide missing packages."""
    machine = config.load_machine(options.machine)
    for name, error in vm.prerequisites(options.qemu, emit, machine.arch):
        yield Finding(name, str(error), error.hint) if error else Finding(name)
    yield from platform_findings(options)
    for need in prerequisites("" if machine.architecture.is_native else machine.arch):
        lost = f" (optional: {need.optional})" if need.optional else ""
        problem = "" if need.present else f"not installed{lost}"
        yield Finding(need.name, problem, f"apt-get install {need.package}", optional=bool(need.optional))


def report(found: Iterator[Finding], console: Console) -> int:
    """Print the findings, the last one of each name; return the exit code."""
    bad = False
    for finding in {each.name: each for each in found}.values():
        if not finding.problem:
            console.print(Text("ok     ", "green"), finding.name)
            continue
        bad = bad or not finding.optional
        console.print(Text("missing", "red"), f"{finding.name}: {finding.problem}")
        if finding.fix:
            console.print(f"        fix: {finding.fix}")
    return HarnessError.exit_code if bad else 0


def print_features(console: Console, built: kernel.Kernel) -> None:
    """Print which features a kernel has."""
    console.print(f"kernel {built.release} ({built.origin}):")
    for feature, present in built.features.items():
        console.print(Text("has    ", "green") if present else Text("lacks  ", "yellow"), feature)
    if built.rxe.reason:
        console.print(f"        rxe: {built.rxe.reason}")

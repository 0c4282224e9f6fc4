# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bugs``: list, show, check and report bugs of the catalogue."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from harness import kernel
from harness.bugs import Bug, Mutation, as_json, as_text, as_yaml, load_bug, load_bugs
from harness.cases.collect import collect
from harness.commands.bug_cases import require_cases
from harness.commands.bug_mail import mail
from harness.config import includes
from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.kernel.source.resolve import BuildDirectory, SourceTree, release_of, resolve_kernel
from harness.progress import Emit, Note, phase, silent
from harness.report import Terminal
from harness.run.read_options import takes_options


@click.group()
def bugs() -> None:
    """List, show, check and report bugs of the catalogue."""


bugs.add_command(mail)


@bugs.command(name="list")
@click.option("--json", "json", is_flag=True, help="Print the whole entries as JSON.")
def list_bugs(json: bool) -> None:
    """List the bugs, with reporter, verdict and cases."""
    click.echo(as_json(load_bugs()) if json else as_text(load_bugs()))


@bugs.command()
@click.argument("name", metavar="ID")
def show(name: str) -> None:
    """Show one entry, with the change that puts the bug back."""
    click.echo(as_yaml(load_bug(name)))


@bugs.command()
@takes_options("bugs check")
@click.option("--compile", "build", is_flag=True, help="Build each changed kernel, too.")
@click.argument("names", metavar="[ID]...", nargs=-1)
def check(kernel: str | None, build: bool, names: tuple[str, ...]) -> None:
    """Check that each mutation applies to the kernel's source.

    It must change the functions that it names, and nothing else. The exit code is 3 if one does not.
    """
    entries = [load_bug(name) for name in names] or load_bugs()
    bad = 0
    with Terminal({}) as terminal:
        for finding in check_entries(entries, kernel, build=build, emit=terminal.emit):
            terminal.emit(Note(str(finding)))
            bad += not finding.good
        terminal.emit(Note(f"{len(entries)} checked, {bad} ERROR"))
    sys.exit(HarnessError.exit_code if bad else 0)


@dataclass(frozen=True)
class Finding:
    """The check of one entry."""

    bug: str
    good: bool
    text: str
    """What the mutation changes, why it is not for this kernel, or what is wrong."""

    def __str__(self) -> str:
        """One line, or more for a compiler's error."""
        return f"{'ok   ' if self.good else 'ERROR'}  {self.bug}: {self.text}"


def check_entries(entries: Sequence[Bug], kernel_name: str | None, *, build: bool, emit: Emit) -> Iterator[Finding]:
    """Check the entries against the source that KERNEL= names; with ``build``, also build each.

    Raises UsageError for a kernel without a source, and MissingPrerequisite for a host without the tools.
    """
    found = resolve_kernel(kernel_name, emit)
    if isinstance(found, BuildDirectory):
        raise UsageError(f"{found.origin} is a build directory: a mutation needs a source tree")
    release = release_of(found.path)
    cases = collect()
    with phase(emit, "bugs", release) as step:
        for number, entry in enumerate(entries):
            step.progress(entry.id, number / len(entries))
            try:
                require_cases(entry, cases)
                yield Finding(entry.id, True, _check_change(entry, found, kernel_name, release, build))
            except MissingPrerequisite:
                raise
            except HarnessError as error:
                yield Finding(entry.id, False, str(error))


def _check_change(entry: Bug, tree: SourceTree, kernel_name: str | None, release: str, build: bool) -> str:
    """Apply the mutation, or the fix of a live bug; return what it changes. Raises HarnessError if it does not fit."""
    change: kernel.SourceChange
    if entry.mutation and includes(entry.mutation.kernels, release):
        change, text = Mutation.of(entry), f"changes {', '.join(entry.mutation.functions)}"
    elif entry.fix and entry.is_in(release):
        change, text = kernel.Series.load(str(entry.fix_path), silent), f"fixed by {entry.fix}"
    else:
        return f"for kernels {entry.mutation.kernels}" if entry.mutation else "nothing to apply"
    began = time.monotonic()
    change.files(tree.path)
    if build:
        kernel.obtain(kernel.KernelSpec(kernel_name, entry.flavour, change), silent)
        text += f"; compiles ({time.monotonic() - began:.1f} s)"
    return text

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bugs mail``: write the report of a live bug and its fix as mails. Nothing is sent."""

import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from harness.bugs import Bug, load_bug
from harness.bugs import reproducer as reproducer_of
from harness.bugs.fix_mail import Author, fix_mail, text_of
from harness.bugs.kernel_scripts import Recipients, checkpatch, recipients
from harness.commands.bug_draft import Draft
from harness.commands.repro import Reproduction, reproduce
from harness.errors import UsageError
from harness.kernel.source.resolve import SourceTree, release_of, resolve_kernel
from harness.progress import Emit
from harness.report import Terminal
from harness.report.record import write_report
from harness.run.known_issues import KnownIssue, catalogue
from harness.run.options import Options
from harness.run.read_options import given, takes_options

REPORT = "report.txt"
_FILE = re.compile(r"[\w./-]+\.[ch]\b")


@click.command(name="mail")
@click.argument("name", metavar="ID")
@click.option("--from", "sender", metavar="NAME <ADDRESS>", help="Who sends and signs it.  [default: git's user]")
@takes_options("bugs mail")
def mail(name: str, sender: str | None, **values: Any) -> None:
    """Write a live bug as mails to its maintainers: a report, and the fix. Nothing is sent.

    Runs the cases of the bug on a kernel that has it, and on a control with the fix, which is the very patch that is
    written. The report has the affected kernels with the line, the kernel's log or what guest and host observed, and
    the reproducer. The fix is what `git am` takes, with Fixes: and your Signed-off-by; the kernel's checkpatch.pl must
    pass it. To: and Cc: are those of the kernel's get_maintainer.pl. Reported-by: is left to you.

    The exit code is 0 if both are written, 1 if the bug does not show, the fix does not help or checkpatch.pl
    complains, 2 for wrong usage, and 3 if the harness or the host failed.
    """
    entry = load_bug(name)
    author = Author.parse(sender) if sender else Author.of_git()
    options = Options(**{"machine": entry.machine, "flavour": entry.flavour, **given(values)})
    with Terminal({}) as terminal:
        written = write_mails(entry, author, options, terminal.emit)
    click.echo(str(written))
    sys.exit(written.exit_code)


@dataclass(frozen=True)
class Written:
    """What was written, and what is wrong with it."""

    found: Reproduction
    files: tuple[Path, ...]
    """The report, the fix and the reproducer; empty if the bug was not reproduced."""
    complaints: tuple[str, ...] = ()
    """Of checkpatch.pl."""

    @property
    def exit_code(self) -> int:
        """As ``mail`` documents it."""
        return self.found.exit_code or int(bool(self.complaints))

    def __str__(self) -> str:
        """Name the files, or say why there are none."""
        if not self.files:
            return f"{self.found}\nno mail: the bug and its fix must show first"
        lines = [*map(str, self.files), *(f"checkpatch.pl: {complaint}" for complaint in self.complaints)]
        lines.append("Nothing was sent. Read both, and add Reported-by: yourself.")
        return "\n".join(lines)


def write_mails(entry: Bug, author: Author, options: Options, emit: Emit) -> Written:
    """Reproduce a live bug with its fix, and write the mails into the directory of the runs.

    Raises UsageError for a bug that this kernel does not have or a kernel without a source, and what ``reproduce`` and
    ``fix_mail`` raise.
    """
    if fixed := next((fix for fix in entry.fixed_by if fix.commit), None):
        raise UsageError(
            f"{entry.id} is fixed upstream by {fixed}", hint="vfio-harness audit says which kernels lack it"
        )
    tree = resolve_kernel(options.kernel or entry.kernel, emit)
    if not isinstance(tree, SourceTree):
        raise UsageError(f"{tree.origin} is a build directory: a patch needs a source tree")
    release, source = release_of(tree.path), tree.path
    if not entry.is_in(release):
        raise UsageError(f"{entry.id} is no bug of {release}: its entry names kernels {entry.kernels or 'none'}")
    issue = next((issue for issue in catalogue() if issue.id == entry.id), None)
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
        patch = Path(tmp, _file_name(entry)) if entry.fix else None
        complaints: tuple[str, ...] = ()
        addressed = _recipients(source, issue)
        if patch:
            patch.write_text(fix_mail(entry, source, author), encoding="utf-8")
            addressed = recipients(source, patch=patch)
            patch.write_text(fix_mail(entry, source, author, addressed), encoding="utf-8")
            complaints = tuple(checkpatch(source, patch))
            entry = entry.model_copy(update={"fix": str(patch)})  # the control proves what is sent
        found = reproduce(entry, replace(options, kernel=options.kernel or entry.kernel), emit)
        if found.exit_code:
            return Written(found, ())
        written = {}
        program = reproducer(entry)
        draft = Draft(found, issue, addressed, str(author), patch.name if patch else "", program)
        written[REPORT] = draft.text()
        if patch:
            written[patch.name] = patch.read_text(encoding="utf-8")
        if program:
            written[program[0]] = program[1]
    for name, text in written.items():
        write_report(found.directory / name, text)
    return Written(found, tuple(found.directory / name for name in written), complaints)


def reproducer(entry: Bug) -> tuple[str, str] | None:
    """Return name and text of the entry's reproducer, a program in C of its id next to its file; None without one."""
    program = reproducer_of(entry.id)
    return (program.name, program.read_text(encoding="utf-8")) if program else None


def _recipients(source: Path, issue: KnownIssue | None) -> Recipients:
    """Return whom a mail without a patch goes to: the maintainers of the file that has the bug."""
    file = _FILE.match(issue.link) if issue else None
    return recipients(source, file=file[0]) if file else Recipients((), ())


def _file_name(entry: Bug) -> str:
    """Name the file of the fix as ``git format-patch`` does."""
    subject = text_of(entry).partition("\n")[0]
    return f"0001-{re.sub(r'[^A-Za-z0-9.]+', '-', subject)[:52].strip('-.')}.patch"

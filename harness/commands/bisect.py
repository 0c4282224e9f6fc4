# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bisect``: git-bisect over a kernel's history, with cases as the judge.

It works in its own repository in the cache, which borrows the objects of the user's. So the user's repository is never
written to: no ref, no worktree, nothing to clean up after a crash. Checkout and build stay in the cache, so that the
next bisection builds only what differs.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from harness import paths
from harness.commands.children import LOG, Ended, Task, run_all
from harness.errors import HarnessError, KernelError, UsageError
from harness.host import process
from harness.host.files import disk_full_reported, fresh_dir
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.source import commit as commits
from harness.kernel.source.clone import borrow
from harness.kernel.source.git import run_git
from harness.progress import Emit, Note, Phase, phase
from harness.report import Terminal, record
from harness.report.record import RunDirectory
from harness.report.text import one_line, tally
from harness.run.exit_codes import SKIP, code_of_cases
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.verdict import KERNEL_AT_FAULT, RunRecord

GIT_LOG = "bisect.log"
_CONFIG = {"core.hooksPath": "/dev/null", "core.autocrlf": "false", "advice.detachedHead": "false", "gc.auto": "0"}
"""Overrides the user's git configuration: sources are checked out as committed, and no hook of the user runs."""
_FIRST_BAD = re.compile(r"^# (?:possible )?first bad commit: \[([0-9a-f]+)\]", re.M)
"""As ``git bisect log`` prints it; source: git, bisect.c."""
_TERMS = {0: "good", 1: "bad", SKIP: "skip"}
"""git-bisect's term for each exit code of a run."""
_ONLY_SKIPPED_LEFT = 2
"""git-bisect's exit status when it cannot narrow further; source: git, bisect.h, BISECT_ONLY_SKIPPED_LEFT."""


@click.command()
@click.argument("good")
@click.argument("bad")
@takes_options("bisect")
@click.option(
    "--tree", default=".", show_default=True, help="The kernel's git tree: a directory, PATH@REF or git:URL@REF."
)
def bisect(good: str, bad: str, tree: str, **values: Any) -> None:
    """Find the first commit on which a case is bad, by git-bisect.

    It is searched between GOOD and BAD. The tree is not written to. Commits that do not build, and commits on which
    every case is skipped, are skipped. The exit code is 0 if a commit is found; 1 if GOOD is bad, BAD is good, or only
    skipped commits are left; 2 for wrong usage; 3 if the harness or the host failed.
    """
    with Terminal({}) as terminal:
        named = commits.parse(tree)
        repository = commits.repository(named, terminal.emit) if named else Path(tree).expanduser()
        found = find_first_bad(repository, (good, bad), Options(**given(values)), terminal.emit)
    click.echo(found)
    sys.exit(found.exit_code)


@dataclass(frozen=True)
class Commit:
    """A commit of the tree."""

    sha: str
    subject: str
    name: str = ""
    """What the user called it, e.g. ``v7.2``."""

    def __str__(self) -> str:
        """Return the short hash and the subject."""
        return f"{self.sha[:12]} ({self.subject})"

    @property
    def short(self) -> str:
        """Return what the user called it, or its short hash."""
        return self.sha[:12] if self.sha.startswith(self.name) else self.name

    @property
    def label(self) -> str:
        """Return what the user called it, the short hash and the subject."""
        return str(self) if self.sha.startswith(self.name) else f"{self.name} {self}"


@dataclass(frozen=True)
class Found:
    """The result of a bisection."""

    directory: Path
    suspects: Sequence[Commit] = ()
    """The first bad commit, then those before it that could not be judged."""
    verdicts: RunRecord | None = None
    """The run on the first suspect; that of ``more`` if there is one."""
    before: RunRecord | None = None
    """The run of ``more`` on the commit before the only suspect; None without such a run."""
    complaint: str = ""
    """Why there is no suspect."""

    @property
    def exit_code(self) -> int:
        """0 if one commit is found, else 1."""
        return 0 if len(self.suspects) == 1 else 1

    def __str__(self) -> str:
        """Format the commit with its bad cases, and git-bisect's log."""
        if self.complaint:
            return f"not bisected: {self.complaint}; {self.directory}"
        lines = [f"first bad commit: {commit}" for commit in self.suspects]
        if len(lines) > 1:
            lines.insert(0, "one of these, of which only the first could be judged:")
        for case in self.verdicts.cases if self.verdicts else ():
            if case.verdict in KERNEL_AT_FAULT:
                lines += [f"  {case.id}: {case.verdict}", f"      {one_line(case.reason)}"]
        log = (self.directory / GIT_LOG).read_text(errors="replace").splitlines()
        return "\n".join([*lines, *(f"  {line}" for line in log), f"{self.directory}/*/latest/report.html"])


def find_first_bad(
    tree: Path, ends: tuple[str, str], options: Options, emit: Emit, more: Options | None = None
) -> Found:
    """Find the first commit of ``tree`` between a good and a bad one on which a case is bad.

    ``more``: options that select more cases. They run once on the first bad commit and on the one before it, so it
    takes no further search to know which of them the same commit broke.

    Raises UsageError for a wrong tree or commit, and HarnessError if git fails or a run says nothing about the kernel.
    """
    commits = [_commit(tree, name) for name in ends]
    held = RunDirectory(paths.results_dir())  # `prune` leaves the directory alone while this exists
    directory = held.path
    objects = Path(run_git(tree, "rev-parse", "--path-format=absolute", "--git-path", "objects")[0])
    top = cache_path("bisect", f"{tree.resolve().name}-{digest(str(objects))}")
    with (
        phase(emit, "bisect", "..".join(commit.short for commit in commits)) as step,
        locked(top, step),
        disk_full_reported(),
    ):
        _borrow(objects, top)
        git = _Git(top, directory / LOG, step)
        git("bisect", "reset", "HEAD", fails=(0, 1, 128))  # an earlier bisection may have been killed
        judge = _Judge(replace(options, kernel=str(top)), directory, emit, step)
        for commit, wanted in zip(commits, ("good", "bad"), strict=True):
            git.check_out(commit)
            if complaint := _end_complaint(wanted, commit, judge):
                return Found(directory, complaint=complaint)
        git("bisect", "start", commits[1].sha, commits[0].sha)
        while not (suspects := _FIRST_BAD.findall(log := git.bisect_log())):
            commit = replace(_commit(top, "HEAD"), name="")
            code = judge.code(commit)
            for line in git("bisect", _TERMS[code], fails=(0, _ONLY_SKIPPED_LEFT))[:1]:
                emit(Note(line))
        (directory / GIT_LOG).write_text(log)
        git("bisect", "reset", "HEAD")
        step.result = f"{len(log.splitlines()) // 2} commits"
        found = [_commit(top, sha) for sha in suspects]
        if more and len(found) == 1:
            judge = replace(judge, options=replace(more, kernel=str(top)), directory=directory / "more", machines=None)
            runs = []
            for commit in (_commit(top, f"{found[0].sha}~1"), found[0]):
                git.check_out(commit)
                runs.append(judge.run(replace(commit, name="")).require())
            return Found(directory, found, verdicts=runs[1], before=runs[0])
    return Found(directory, found, record.load(directory / found[0].sha / "latest"))


def _commit(tree: Path, name: str) -> Commit:
    try:
        sha, subject = run_git(tree, "show", "-s", "--format=%H%n%s", "--end-of-options", f"{name}^{{commit}}")[:2]
    except HarnessError as error:
        hint = "--tree takes a git tree; name two of its commits"
        raise UsageError(f"{tree}: no commit {name!r}: {error}", hint=hint) from None
    return Commit(sha, subject, name)


def _borrow(objects: Path, top: Path) -> None:
    """Make ``top`` a repository that borrows the objects of another."""
    if not (top / ".git").is_dir():
        with fresh_dir(top) as made:
            process.check(["git", "init", "--quiet", "--template=", made], cwd=made)
            for name, value in _CONFIG.items():
                process.check(["git", "config", name, value], cwd=made)
    borrow(objects, top / ".git")


@dataclass(frozen=True)
class _Git:
    """git in the cache's repository ``top``. Its output is kept in the file ``output``."""

    top: Path
    output: Path
    step: Phase

    def __call__(self, *args: str, fails: Sequence[int] = (0,)) -> list[str]:
        """Run git and return its lines. Raises HarnessError if its exit status is not in ``fails``."""
        (self.top / ".git" / "index.lock").unlink(missing_ok=True)  # of an earlier git that was killed
        lines: list[str] = []
        status = process.run(
            ["git", *args],
            cwd=self.top,
            on_line=lines.append,
            on_tick=lambda: self.step.progress(f"git {args[0]}"),
        )
        with self.output.open("a") as output:
            output.writelines(f"{line}\n" for line in [f"$ git {' '.join(args)}", *lines])
        if status not in fails:
            last = lines[-1] if lines else "no message"
            raise HarnessError(
                f"git {args[0]} failed with exit status {status}: {last}", hint=f"the whole output: {self.output}"
            )
        return lines

    def bisect_log(self) -> str:
        """Return git-bisect's log of good, bad and skipped commits."""
        return "\n".join(self("bisect", "log")) + "\n"

    def check_out(self, commit: Commit) -> None:
        """Check out a commit; files that are the same keep their time stamps."""
        self.step.progress(f"checking out {commit}")
        self("checkout", "--quiet", "--force", "--detach", commit.sha)
        self("clean", "-fdxq")


@dataclass(frozen=True)
class _Judge:
    """Runs the cases on the commit that is checked out."""

    options: Options
    directory: Path
    emit: Emit
    step: Phase
    machines: int | None = 1
    """How many machines share the cases; None: as many as a run takes."""

    def run(self, commit: Commit) -> Ended:
        """Run the cases; the results are in a directory named like the commit."""
        ended: list[Ended] = []
        run_all(
            [Task(commit.label, self.options, self.directory / commit.sha, jobs=self.machines)],
            jobs=1,
            on_end=lambda task, end: ended.append(end),
            on_tick=lambda tasks: self.step.progress(commit.label),
        )
        return ended[0]

    def code(self, commit: Commit) -> int:
        """Run the cases and return 0 for good, 1 for bad, 125 for a commit to skip.

        Raises HarnessError for a run that says nothing about the kernel.
        """
        try:
            run = self.run(commit).require()
        except KernelError as error:
            self.emit(Note(f"{commit}: skip: {one_line(str(error))}"))
            return SKIP
        code = code_of_cases([case.verdict for case in run.cases])
        if code not in _TERMS:
            raise HarnessError(f"{commit.short} could not be judged: {tally(run.summary)}")
        self.emit(Note(f"{commit}: {_TERMS[code]}: {tally(run.summary)}"))
        return code


def _end_complaint(wanted: str, commit: Commit, judge: _Judge) -> str:
    """Run an end of the range; return why it is not ``wanted``, good or bad; empty if it is."""
    try:
        run = judge.run(commit).require()
    except KernelError as error:
        return f"{commit.short} cannot be judged: {error}"
    judge.emit(Note(f"{commit.label}: {tally(run.summary)}"))
    code = code_of_cases([case.verdict for case in run.cases])
    if code not in _TERMS:
        raise HarnessError(f"{commit.short} could not be judged: {tally(run.summary)}")
    if _TERMS[code] == wanted:
        return ""
    seen = "without a case that can be shown on it" if code == SKIP else _TERMS[code]
    return f"{commit.short} should be {wanted}, and is {seen}: {tally(run.summary)}"

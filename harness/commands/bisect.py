# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bisect``: git-bisect over a kernel's history, with a case as its judge.

It works in a repository of its own in the cache, which borrows the objects of the user's: nothing is written there, no
ref, no worktree, nothing to clean up after a crash. Checkout and build stay in the cache, so that the next bisection
builds only what differs.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness import paths
from harness.commands.children import LEAVE_S, LOG, RUN, Ended, Task, error_in, run_all, tied
from harness.errors import HarnessError, KernelError, UsageError
from harness.host import process
from harness.host.files import disk_full_reported, fresh_dir
from harness.kernel.build import reuse
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.source.resolve import SourceTree, resolve_kernel, run_git
from harness.progress import Emit, Note, Phase, phase
from harness.report import record
from harness.report.record import RunDirectory
from harness.report.text import one_line, tally
from harness.run.exit_codes import SKIP, code_of_cases
from harness.run.setup import Options
from harness.verdict import KERNEL_AT_FAULT, RunRecord

GIT_LOG = "bisect.log"
_CONFIG = {"core.hooksPath": "/dev/null", "core.autocrlf": "false", "advice.detachedHead": "false", "gc.auto": "0"}
"""Whatever the user's own says: sources as they were committed, and nothing of the user's run by it."""
_FIRST_BAD = re.compile(r"^# (?:possible )?first bad commit: \[([0-9a-f]+)\]", re.M)
_STEP_TOLD = re.compile(r"^(?:Bisecting: |\[[0-9a-f]{7,}\] |[A-Z]{4,5} +[\d.]+ s  )")
# What git-bisect runs for each commit: as a run in the user's directory, its results by the commit's name.
_STEP = 'VFIO_HARNESS_RESULTS="$1/$(git rev-parse HEAD)"; export VFIO_HARNESS_RESULTS; cd "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class Commit:
    """``name`` is what the user called it."""

    sha: str
    subject: str
    name: str = ""

    def __str__(self) -> str:
        """For people."""
        return f"{self.sha[:12]} ({self.subject})"


@dataclass(frozen=True)
class Found:
    """What came of it. ``suspects``: the first bad commit, then those before it that could not be judged, if any;
    empty, if ``complaint`` says why there is none. ``verdicts``: of the first of them."""

    directory: Path
    suspects: Sequence[Commit] = ()
    verdicts: RunRecord | None = None
    complaint: str = ""

    @property
    def exit_code(self) -> int:
        """0 if one commit is found, else 1."""
        return 0 if len(self.suspects) == 1 else 1

    def __str__(self) -> str:
        """The commit with its bad cases, and git-bisect's log."""
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


def bisect(tree: Path, ends: tuple[str, str], options: Options, arguments: Sequence[str], emit: Emit) -> Found:
    """Find the first commit of ``tree`` between the ends, the good and the bad one, on which a case is bad.
    ``options.kernel`` is not used; ``arguments`` say which cases.

    Raises UsageError for a tree or commits that are none, and HarnessError where git or a run fails."""
    commits = [_commit(tree, name) for name in ends]
    directory = RunDirectory(paths.results_dir()).path
    objects = Path(run_git(tree, "rev-parse", "--path-format=absolute", "--git-path", "objects")[0])
    top = cache_path("bisect", f"{tree.resolve().name}-{digest(str(objects))}")
    with phase(emit, "bisect", "..".join(ends)) as step, locked(top, step), disk_full_reported():
        _borrow(objects, top)
        git = _Git(top, step)
        git("bisect", "reset", "HEAD", check=False)  # of one that was killed
        run = replace(options, kernel=str(top)).arguments()
        for commit, wanted in zip(commits, (0, 1), strict=True):
            git.check_out(commit)
            _seed(top, options, step)
            if complaint := _ends_as(wanted, commit, _run(commit, [*run, *arguments], directory, step), emit):
                return Found(directory, complaint=complaint)
        git("bisect", "start", commits[1].sha, commits[0].sha)
        status = _git_bisect_run(top, [*run, *arguments], directory, emit)
        log = "\n".join(git("bisect", "log")) + "\n"
        (directory / GIT_LOG).write_text(log)
        suspects = [_commit(top, sha) for sha in _FIRST_BAD.findall(log)]
        if not suspects:
            raise HarnessError(
                f"git bisect run ended with exit status {status}: {error_in(directory / LOG)}",
                hint=f"the whole output: {directory / LOG}",
            )
        git("bisect", "reset", "HEAD")
        step.result = f"{len(log.splitlines()) // 2} commits"
    return Found(directory, suspects, record.load(directory / suspects[0].sha / "latest"))


def _commit(tree: Path, name: str) -> Commit:
    try:
        sha, subject = run_git(tree, "show", "-s", "--format=%H%n%s", "--end-of-options", f"{name}^{{commit}}")[:2]
    except HarnessError as error:
        raise UsageError(f"{tree}: {error}", hint="--tree takes a git tree; name two of its commits") from None
    return Commit(sha, subject, name)


def _borrow(objects: Path, top: Path) -> None:
    """Make ``top`` a repository that has the objects of another."""
    if not (top / ".git").is_dir():
        with fresh_dir(top) as made:
            process.check(["git", "init", "--quiet", "--template=", made], cwd=made)
            for name, value in _CONFIG.items():
                process.check(["git", "config", name, value], cwd=made)
    (top / ".git" / "objects" / "info").mkdir(parents=True, exist_ok=True)
    (top / ".git" / "objects" / "info" / "alternates").write_text(f"{objects}\n")
    (top / ".git" / "shallow").unlink(missing_ok=True)
    if (objects.parent / "shallow").exists():
        shutil.copyfile(objects.parent / "shallow", top / ".git" / "shallow")


@dataclass(frozen=True)
class _Git:
    """git in the repository ``top``, which is ours alone."""

    top: Path
    step: Phase

    def __call__(self, *args: str, check: bool = True) -> list[str]:
        lock = self.top / ".git" / "index.lock"
        lock.unlink(missing_ok=True)  # of one that was killed
        run = process.check if check else process.run
        lines = run(["git", *args], cwd=self.top, on_tick=lambda: self.step.progress(f"git {args[0]}"))
        return lines if isinstance(lines, list) else []

    def check_out(self, commit: Commit) -> None:
        """Bring the sources to a commit; what is the same keeps its date."""
        self.step.progress(f"checking out {commit}")
        self("checkout", "--quiet", "--force", "--detach", commit.sha)
        self("clean", "-fdxq")


def _seed(top: Path, options: Options, step: Phase) -> None:
    found = resolve_kernel(str(top), lambda event: None)
    assert isinstance(found, SourceTree)
    if reuse.start_from_nearest_build(found, options.flavour, step):
        _Git(top, step)("update-index", "-q", "--refresh")  # it has other dates now


def _run(commit: Commit, arguments: Sequence[str], directory: Path, step: Phase) -> Ended:
    """What a run on the commit, which is checked out, comes to."""
    ended: list[Ended] = []
    run_all(
        [Task(commit.name, arguments, directory / commit.sha)],
        jobs=1,
        on_end=lambda task, end: ended.append(end),
        on_tick=lambda tasks: step.progress(f"{commit.name}: {commit}"),
    )
    return ended[0]


def _ends_as(wanted: int, commit: Commit, ended: Ended, emit: Emit) -> str:
    """Why this end of the range is not what the user says it is; empty if it is. Raises what ended the run, unless
    that is the kernel's fault."""
    try:
        run = ended.require()
    except KernelError as error:
        return f"{commit.name} cannot be judged: {error}"
    emit(Note(f"{commit.name:12} {commit}: {tally(run.summary)}"))
    code = code_of_cases([case.verdict for case in run.cases])
    if code == wanted:
        return ""
    if code > SKIP:
        raise HarnessError(f"{commit.name} could not be judged: {tally(run.summary)}")
    is_ = {0: "good", 1: "bad", SKIP: "without a case that can be shown on it"}[code]
    return f"{commit.name} is to be {'bad' if wanted else 'good'}, and is {is_}: {tally(run.summary)}"


def _git_bisect_run(top: Path, arguments: Sequence[str], directory: Path, emit: Emit) -> int:
    """Returns git's exit status. What it and the runs print goes to a file; their steps and verdicts are told."""
    run = tied([*RUN, "--bisect", *arguments])
    step = ["sh", "-c", _STEP, "sh", str(directory), str(Path.cwd()), *run]
    git = tied(["git", "bisect", "run", *step])

    def tell(line: str) -> None:
        if _STEP_TOLD.match(line):
            emit(Note(line))

    return _follow(git, top, directory / LOG, tell)


def _follow(command: Sequence[str], cwd: Path, log: Path, on_line: Callable[[str], None]) -> int:
    """Run a command to its end. Whatever is raised meanwhile, Ctrl-C included, ends all that it has started, as Ctrl-C
    would: runs put their things away."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with (
        log.open("w") as out,
        subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**environment, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        ) as child,
        _ended_with(child.pid),
    ):
        assert child.stdout
        for line in child.stdout:
            out.write(line)
            on_line(line.rstrip())
        return child.wait()


@contextmanager
def _ended_with(group: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + LEAVE_S
        while process.is_alive(group) and time.monotonic() < deadline:
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        raise

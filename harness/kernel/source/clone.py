# SPDX-License-Identifier: GPL-2.0-only
"""Bare git repositories in the cache: one that borrows the objects of a user's, and one that is fetched from a URL.

A fetch transfers only what the last one did not. Both kinds are safe to delete.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.escape import printable
from harness.host import process
from harness.host.faults import host_fault
from harness.host.files import disk_full_reported, fresh_dir, write_atomically
from harness.host.packages import require
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.source import git
from harness.progress import Phase

ANSWER_S = 60.0
"""The longest wait for a server's list of refs."""
FETCH_S = 3600.0
"""The longest fetch: all of Linux is 3 GB."""
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "gc.autoDetach": "false",
    "gc.autoPackLimit": "50",
    "gc.bigPackThreshold": "1g",
}
"""git cleans up after a fetch, while the lock is held, and leaves the large pack of the first fetch as it is."""
_STALLED = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")
"""Give up on an HTTP transfer that stays below 1 kB/s for a minute."""
_OF_THE_USER = (
    "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_SSL_CAINFO", "SSL_CERT_FILE",
    "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "XDG_CONFIG_HOME",
)  # fmt: skip
"""What the user's git needs to reach a server."""
_ORDER = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}")
"""The refs that a short name may mean, in git's order (gitrevisions)."""


@dataclass(frozen=True)
class _Failure:
    """A way in which git cannot reach a repository."""

    words: re.Pattern[str]
    """What git, ssh or curl print then."""
    kind: type[HarnessError]
    says: str
    """What is wrong, after the URL."""
    hint: str


_CHECK_NETWORK = "check the network and https_proxy; with a clone on this host: KERNEL=PATH@REF"
_FAILURES = (
    _Failure(
        re.compile(
            r"Could not resolve|[Uu]nable to connect|Failed to connect|Connection (?:refused|timed out|reset|closed)"
            r"|Network is unreachable|No route to host|unable to look up|Operation too slow|[Pp]roxy|early EOF"
        ),
        HarnessError,
        "cannot be reached",
        _CHECK_NETWORK,
    ),
    _Failure(
        re.compile(
            r"could not read (?:Username|Password)|Authentication failed|Permission denied|error: 40[13]"
            r"|Host key verification"
        ),
        HarnessError,
        "wants a login, or does not exist",
        "set up git's credential helper or ssh-agent: the harness never asks for a password",
    ),
    _Failure(
        re.compile(r"not our ref|couldn't find remote ref|unadvertised object"),
        UsageError,
        "has no such commit",
        "name a branch or a tag that contains it; `git ls-remote URL` lists them",
    ),
    _Failure(
        re.compile(r"not appear to be a git repository|[Rr]epository .*not found|does not exist|error: 404"),
        UsageError,
        "is no git repository",
        "try: git ls-remote URL",
    ),
    _Failure(
        re.compile(r"unable to access|Could not read from remote repository"),
        HarnessError,
        "cannot be reached",
        _CHECK_NETWORK,
    ),
)


def borrowed(objects: Path, step: Phase) -> Path:
    """Return a bare repository in the cache that has the objects of the user's: ``objects`` is their directory."""
    bare = cache_path("git", f"{_name(str(objects.parent))}-{digest(str(objects))}.git")
    with locked(bare, step), disk_full_reported():
        if not (bare / "HEAD").is_file():
            _make(bare)
        borrow(objects, bare)
        os.utime(bare)  # the date of the last use
    return bare


def borrow(objects: Path, git_dir: Path) -> None:
    """Let the repository ``git_dir`` read the objects of another, where its history is cut off too if it is shallow."""
    (git_dir / "objects" / "info").mkdir(parents=True, exist_ok=True)
    write_atomically(git_dir / "objects" / "info" / "alternates", f"{objects}\n")
    (git_dir / "shallow").unlink(missing_ok=True)
    if (objects.parent / "shallow").exists():
        shutil.copyfile(objects.parent / "shallow", git_dir / "shallow")


def fetched(url: str, ref: str, commit: str, given: str, step: Phase) -> tuple[Path, str]:
    """Fetch a branch, tag or commit into the URL's repository in the cache; return the repository and the commit.

    Tags of the fetched commits come too, so that ``git describe`` works. ``commit``: 40 digits, if ``ref`` shall mean
    that commit, also when it has moved on. Such a commit needs no network if it is there already. ``given``: as the
    user named it, for errors. Raises UsageError if there is no such repository or
    no such ref, HarnessError if the URL cannot be reached in time."""
    bare = cache_path("git", f"{_name(url)}-{digest(url)}.git")
    with locked(bare, step), disk_full_reported():
        if not (bare / "HEAD").is_file():
            _make(bare)
        os.utime(bare)
        _remove_locks(bare)
        remote = _Remote(url, given, bare, step)
        commit = commit or (ref if git.FULL.fullmatch(ref) else "")
        if commit:
            if not _has(bare, commit):
                remote.fetch(commit)
            return bare, commit
        if full := remote.find(ref):
            remote.fetch(full)
            return bare, git.commit_of(bare, _kept_as(full), given)
    more = " (a commit needs all its 40 digits)" if re.fullmatch(r"[0-9a-f]{7,39}", ref) else ""
    raise UsageError(f"{given}: {url} has no branch or tag {ref!r}{more}", hint=f"try: git ls-remote {url}")


@dataclass(frozen=True)
class _Remote:
    """A repository at a URL."""

    url: str
    given: str
    bare: Path
    """The repository in the cache, which the caller has locked."""
    step: Phase

    def find(self, ref: str) -> str | None:
        """Return the full name of a ref, or None if there is none."""
        lines = self._git(["ls-remote", "--", self.url, ref], ANSWER_S, f"asking {self.url} for {ref}")
        names = {line.partition("\t")[2] for line in lines if git.FULL.match(line)}
        return next((name for form in _ORDER if (name := form.format(ref)) in names), None)

    def fetch(self, name: str) -> None:
        """Fetch a ref or a commit, and its tags."""
        refspec = f"+{name}:{_kept_as(name)}"
        command = [
            "fetch",
            "--force",
            "--no-write-fetch-head",
            "--update-shallow",
            "--progress",
            "--",
            self.url,
            refspec,
        ]
        self._git(command, FETCH_S, f"fetching {name}")

    def _git(self, args: Sequence[str], deadline_s: float, doing: str) -> list[str]:
        kept = {name: os.environ[name] for name in _OF_THE_USER if name in os.environ}
        lines: list[str] = []
        try:
            status = process.run(
                ["git", "-c", "safe.directory=*", *_STALLED, "--git-dir", self.bare, *args],
                cwd=self.bare,
                env=process.environment(GIT_TERMINAL_PROMPT="0", **kept),
                on_line=lines.append,
                on_tick=lambda: self.step.progress(doing),
                timeout_s=deadline_s,
            )
        except MissingPrerequisite:
            raise
        except HarnessError as error:
            raise HarnessError(f"{self.given}: {self.url}: {error}", hint=_CHECK_NETWORK) from None
        if status:
            raise self._failure(lines)
        return lines

    def _failure(self, lines: Sequence[str]) -> HarnessError:
        """Return the error for what git printed; the server wrote some of it."""
        if fault := host_fault(lines):
            return fault
        said = printable(next((line for line in lines if line.startswith("fatal:")), lines[-1] if lines else ""), 200)
        for failure in _FAILURES:
            if any(map(failure.words.search, lines)):
                hint = failure.hint.replace("URL", self.url)
                return failure.kind(f"{self.given}: {self.url} {failure.says}: {said}", hint=hint)
        return HarnessError(f"{self.given}: git failed: {said}", hint=f"if {self.bare} is damaged, remove it")


def _make(bare: Path) -> None:
    require("git")
    with fresh_dir(bare) as made:
        process.check(["git", "init", "--quiet", "--bare", "--template=", made], cwd=made)
        for name, value in _CONFIG.items():
            process.check(["git", "--git-dir", made, "config", name, value], cwd=made)


def _remove_locks(bare: Path) -> None:
    """Remove what a git that was killed has left."""
    for left in [*bare.glob("*.lock"), *bare.glob("refs/**/*.lock"), *bare.glob("objects/pack/tmp_*")]:
        left.unlink(missing_ok=True)


def _has(bare: Path, commit: str) -> bool:
    try:
        git.run_git(bare, "cat-file", "-e", f"{commit}^{{commit}}")
    except MissingPrerequisite:
        raise
    except HarnessError:
        return False
    return True


def _kept_as(name: str) -> str:
    """Return the ref in the cache for a ref or a commit: one name for each, whatever it contains."""
    return f"refs/harness/{digest(name)}"


def _name(location: str) -> str:
    """Return a readable part of a file name for a URL or a directory: ``linux`` for ``.../linux.git``."""
    parts = [part for part in re.split(r"[/:]", location) if part and part != ".git"]
    return re.sub(r"[^\w.-]", "_", parts[-1].removesuffix(".git") if parts else "git")[:40]

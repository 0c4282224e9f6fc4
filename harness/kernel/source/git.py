# SPDX-License-Identifier: GPL-2.0-only
"""Read a git repository of any owner, without writing to it."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.host import process
from harness.kernel.model import GitCommit

DEADLINE_S = 300.0
"""The longest run of a git command that needs no network: it may read each file of a kernel tree."""
SHORT = 12
"""Digits of a commit in messages and in ``git describe``, as the kernel's mails have them."""
FULL = re.compile(r"[0-9a-f]{40}")
_READ_ONLY = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
"""A repository of any owner; and fsmonitor would start a daemon that writes to the repository."""
_NO_WRITES = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
"""Neither refresh the index, nor fetch objects that a partial clone lacks."""


def run_git(
    tree: Path, *args: str, env: Mapping[str, str] | None = None, on_tick: Callable[[], None] = lambda: None
) -> list[str]:
    """Run git in a tree of any owner, without writing there; return the lines of its output. Raises HarnessError."""
    environment = process.environment(**_NO_WRITES, **(env or {}))
    return process.check(["git", *_READ_ONLY, *args], cwd=tree, env=environment, on_tick=on_tick, timeout_s=DEADLINE_S)


def objects_of(repository: Path, given: str) -> Path:
    """Return the directory of a repository's objects. ``given``: as the user named it, for the error.

    Raises UsageError if ``repository`` is neither the top of a work tree nor a repository itself."""
    try:
        return Path(_at(repository, "rev-parse", "--path-format=absolute", "--git-path", "objects")[0])
    except MissingPrerequisite:
        raise
    except HarnessError as error:
        hint = "name the top of a git work tree, or a bare repository"
        raise UsageError(f"{given}: {repository} is no git repository: {error}", hint=hint) from None


def commit_of(repository: Path, ref: str, given: str) -> str:
    """Return the 40 hex digits of the commit that ``ref`` names. Raises UsageError if it names none."""
    try:
        return _at(repository, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")[-1]
    except MissingPrerequisite:
        raise
    except HarnessError:
        hint = f"`git -C {repository} branch --all` and `git -C {repository} tag` list what it has"
        raise UsageError(f"{given}: {repository} has no commit {ref!r}", hint=hint) from None


def describe(repository: Path, commit: str) -> str:
    """Return what ``git describe`` prints for a commit; empty if no tag is reachable."""
    try:
        return _at(repository, "describe", f"--abbrev={SHORT}", commit)[-1]
    except HarnessError:
        return ""


def checked_out(tree: Path) -> GitCommit | None:
    """Return the commit of a user's work tree, and whether it is dirty; None if it is not from git.

    Not ``git describe --dirty``, which writes the index (Linux: scripts/setlocalversion)."""
    if not os.path.lexists(tree / ".git"):
        return None
    try:
        commit = _at(tree, "rev-parse", "--verify", "HEAD^{commit}")[-1]
        branch = _at(tree, "rev-parse", "--abbrev-ref", "HEAD")[-1]
        dirty = bool(_at(tree, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules"))
    except HarnessError:
        return None
    described = describe(tree, commit)
    return GitCommit(
        url=str(tree),
        ref="" if branch == "HEAD" else branch,
        commit=commit,
        describe=f"{described}-dirty" if described and dirty else described,
        dirty=dirty,
    )


def _at(repository: Path, *args: str) -> list[str]:
    """Run git in this repository, and in none that contains it."""
    return run_git(repository, *args, env={"GIT_CEILING_DIRECTORIES": str(repository.resolve().parent)})

# SPDX-License-Identifier: GPL-2.0-only
"""KERNEL=PATH@REF and KERNEL=git:URL@REF: a commit of a git repository as the kernel under test."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.kernel.cache import digest
from harness.kernel.model import GitCommit
from harness.kernel.source import checkout, clone, git
from harness.kernel.source.checkout import Checkout
from harness.progress import Emit, phase

FORMS = "PATH@REF or git:URL@REF, where REF is a branch, a tag or a commit"
_PREFIX = "git:"
_REF = re.compile(r"(?!-)[^\x00-\x1f]+")
_REMOTE_REF = re.compile(r"(?!-)[^\s\x00-\x1f:?*\[\\~^]+")
"""The characters of a ref (git-check-ref-format): a server does not know ``main~3``."""
_PINNED = re.compile(r"(.+)=([0-9a-f]{40})")
_WITH_PATH = re.compile(r"[a-z+]+://[^/]*/.+|(?!\w+://).+", re.S)
"""A URL with a path. An ``@`` before the path belongs to the user's name."""


@dataclass(frozen=True)
class Named:
    """A commit as KERNEL= names it."""

    repository: str
    """A URL, or a directory."""
    ref: str
    """A branch, a tag or a commit."""
    remote: bool
    """Whether it is a URL."""
    commit: str = ""
    """40 hex digits: the commit that the ref named once. Empty for the one that it names now."""

    @property
    def name(self) -> str:
        """Return repository and ref, as KERNEL= takes them."""
        return f"{_PREFIX * self.remote}{self.repository}@{self.ref}"

    def __str__(self) -> str:
        """Return the whole form that KERNEL= takes."""
        return f"{self.name}={self.commit}" if self.commit else self.name


def parse(kernel: str) -> Named | None:
    """Read KERNEL=; return None if it names no commit. Raises UsageError for a URL without REF or with a password."""
    if kernel.startswith(_PREFIX):
        return _parse_url(kernel)
    if Path(kernel).expanduser().is_dir():
        return None
    for at in (match.start() for match in re.finditer("@", kernel)):
        directory, ref = Path(kernel[:at]).expanduser(), kernel[at + 1 :]
        if at and directory.is_dir():
            name, commit = _split_ref(_checked(ref, kernel))
            return Named(str(directory.absolute()), name, remote=False, commit=commit)
    return None


def obtain(named: Named, emit: Emit) -> tuple[GitCommit, Checkout]:
    """Fetch the commit if it is remote, and check it out in the cache. The repository is not written to.

    Raises UsageError if there is no such repository or commit, HarnessError if it cannot be reached."""
    given = f"KERNEL={named}"
    with phase(emit, "kernel source", str(named)) as step:
        if named.remote:
            bare, commit = clone.fetched(named.repository, named.ref, named.commit, given, step)
            described = git.describe(bare, commit)
        else:
            repository = Path(named.repository)
            bare = clone.borrowed(git.objects_of(repository, given), step)
            commit = git.commit_of(repository, named.commit or named.ref, given)
            described = git.describe(repository, commit)
        found = GitCommit(named.repository, named.ref, commit, described)
        checked_out = checkout.check_out(bare, commit, _key(named, bare), given, step)
        step.result = ", ".join(filter(None, [commit[: git.SHORT], described]))
    return found, checked_out


def pinned(kernel: str | None, emit: Emit) -> str | None:
    """Return a value of KERNEL= that names the same commit tomorrow: ``PATH@REF=COMMIT``. Others stay as they are.

    A night resolves each ref once, so that all its cells test the same commit. Raises the errors of ``obtain``."""
    named = parse(kernel) if kernel else None
    if named is None or named.commit:
        return kernel
    given = f"KERNEL={named}"
    with phase(emit, "kernel source", str(named)) as step:
        if named.remote:
            commit = clone.fetched(named.repository, named.ref, "", given, step)[1]
        else:
            git.objects_of(Path(named.repository), given)
            commit = git.commit_of(Path(named.repository), named.ref, given)
        step.result = commit[: git.SHORT]
    return str(replace(named, commit=commit))


def repository(named: Named, emit: Emit) -> Path:
    """Return a repository that has the commit, to read only: the user's, or the one that the cache fetches."""
    if not named.remote:
        return Path(named.repository)
    with phase(emit, "kernel source", str(named)) as step:
        return clone.fetched(named.repository, named.ref, named.commit, str(named), step)[0]


def _parse_url(kernel: str) -> Named:
    url, at, ref = kernel.removeprefix(_PREFIX).rpartition("@")
    if not at or not _WITH_PATH.fullmatch(url) or not _REMOTE_REF.fullmatch(ref):
        raise UsageError(
            f"KERNEL={kernel}: no REF after the URL", hint="KERNEL=git:URL@REF, e.g. git:https://...@master"
        )
    if "://" in url and urlsplit(url).password:
        shown = f"{url.partition('://')[0]}://...@{ref}"
        hint = "leave it out: git asks its credential helper; reports would show it"
        raise UsageError(f"KERNEL=git:{shown}: the URL holds a password", hint=hint)
    local = Path(url).expanduser()
    name, commit = _split_ref(ref)
    return Named(str(local.absolute()) if local.is_dir() else url, name, remote=True, commit=commit)


def _split_ref(ref: str) -> tuple[str, str]:
    """Return a ref, and the commit after ``=``; empty without one."""
    return (found[1], found[2]) if (found := _PINNED.fullmatch(ref)) else (ref, "")


def _checked(ref: str, kernel: str) -> str:
    if not _REF.fullmatch(ref):
        raise UsageError(f"KERNEL={kernel}: {ref!r} is no name of a commit", hint=f"KERNEL= takes {FORMS}")
    return ref


def _key(named: Named, bare: Path) -> str:
    """Name the checkout: one for each branch or tag, and one that all commits share which are named by their digits."""
    ref = "" if re.fullmatch(r"[0-9a-f]{7,40}", named.ref) else named.ref
    readable = re.sub(r"[^\w.-]", "_", ref)[:24]
    return "-".join(filter(None, [bare.name.removesuffix(".git"), readable, digest(ref)[:8] if ref else ""]))

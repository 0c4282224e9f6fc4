# SPDX-License-Identifier: GPL-2.0-only
"""Checkouts of git commits in the cache. A later commit of the same ref writes only the files that differ.

Files that are the same keep their dates, so make compiles only what differs. A run holds a shared lock on its checkout
until its end. So a run that needs another commit meanwhile gets another checkout of the same ref.
"""

import fcntl
import itertools
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.host import process
from harness.host.files import disk_full_reported, write_atomically
from harness.kernel.cache import cache_path, locked
from harness.kernel.source import git
from harness.progress import Phase

_KERNEL = ("Kconfig", "Kbuild")
_CONFIG = tuple(
    word
    for setting in ("bare=false", "hooksPath=/dev/null", "attributesFile=/dev/null")
    for word in ("-c", f"core.{setting}")
)
_NO_USER_CONFIG = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
"""Files are checked out as they were committed: no filter and no attributes of the user."""


class Lock:
    """A shared lock on a checkout. It ends with the object."""

    def __init__(self, handle: int) -> None:
        """``handle``: of the checkout's directory; it is closed with the object."""
        weakref.finalize(self, os.close, handle)


@dataclass(frozen=True)
class Checkout:
    """The files of a commit."""

    path: Path
    """The directory of the source."""
    key: str
    """The checkout's name in the cache."""
    lock: Lock
    """Nobody changes the files while it exists."""


def check_out(bare: Path, commit: str, key: str, given: str, step: Phase) -> Checkout:
    """Return a checkout of a commit of the repository ``bare``. ``key`` names the repository and the ref.

    Raises UsageError if the commit is no kernel source, HarnessError if git fails."""
    _require_kernel(bare, commit, given)
    with locked(cache_path("checkout", key), step), disk_full_reported():
        slots = [_Slot(cache_path("checkout", key if number == 1 else f"{key}.{number}")) for number in _numbers(key)]
        for slot in sorted(slots, key=lambda slot: slot.commit() != commit):
            handle = slot.open()
            with _closed_on_error(handle):
                if slot.acquire(handle, bare, commit, step):
                    os.utime(handle)  # the date of the last use
                    return Checkout(slot.source, slot.top.name, Lock(handle))
            os.close(handle)
    raise HarnessError(f"{given}: its checkouts are being removed", hint="try again")


@dataclass(frozen=True)
class _Slot:
    """One checkout, ``top``, with ``source``, git's ``index`` of it, and the file ``commit``."""

    top: Path

    @property
    def source(self) -> Path:
        return self.top / "source"

    def open(self) -> int:
        """Return a handle of the directory, to lock: while it is locked, nobody changes or removes the checkout."""
        self.top.mkdir(exist_ok=True)
        return os.open(self.top, os.O_RDONLY | os.O_DIRECTORY)

    def acquire(self, handle: int, bare: Path, commit: str, step: Phase) -> bool:
        """Lock the checkout with the files of ``commit``, shared with other runs. The caller has locked its key.

        Returns False if another run uses it for another commit, or if it was removed since ``open``."""
        if _lock(handle, fcntl.LOCK_EX):
            if not self._is_at(handle):
                return False
            self.bring_to(bare, commit, step)  # also if it is there: somebody may have edited a file
        elif self.commit() != commit:
            return False
        # No other run takes it exclusively in between: that needs the lock of the key.
        return _lock(handle, fcntl.LOCK_SH) and self._is_at(handle)

    def _is_at(self, handle: int) -> bool:
        return self.top.exists() and os.path.samestat(os.fstat(handle), self.top.stat())

    def commit(self) -> str:
        """Return the commit that is checked out; empty while it changes, and after a run that was killed then."""
        with suppress(OSError):
            return (self.top / "commit").read_text() if self.source.is_dir() else ""
        return ""

    def bring_to(self, bare: Path, commit: str, step: Phase) -> None:
        """Write the files that differ, and remove those that do not belong there. The caller has locked the slot."""
        known = (self.top / "index").exists()
        (self.top / "commit").unlink(missing_ok=True)
        (self.top / "index.lock").unlink(missing_ok=True)
        self.source.mkdir(exist_ok=True)
        try:
            self._read_tree(bare, commit, step)
        except HarnessError:
            if not known:
                raise
            (self.top / "index").unlink(missing_ok=True)  # perhaps it is damaged
            shutil.rmtree(self.source)
            self.source.mkdir()
            self._read_tree(bare, commit, step)
        write_atomically(self.top / "commit", commit)

    def _read_tree(self, bare: Path, commit: str, step: Phase) -> None:
        doing = f"checking out {commit[: git.SHORT]}"
        step.progress(doing)
        place = {"GIT_DIR": str(bare), "GIT_WORK_TREE": str(self.source), "GIT_INDEX_FILE": str(self.top / "index")}
        for command in (["read-tree", "--reset", "-u", commit], ["clean", "-ffdxq"]):
            process.check(
                ["git", "-c", "safe.directory=*", *_CONFIG, *command],
                cwd=self.source,
                env=process.environment(**place, **_NO_USER_CONFIG),
                on_tick=lambda: step.progress(doing),
                timeout_s=git.DEADLINE_S,
            )


def _require_kernel(bare: Path, commit: str, given: str) -> None:
    listed = git.run_git(bare, "ls-tree", "--name-only", commit, "--", *_KERNEL)
    if set(listed) != set(_KERNEL):
        raise UsageError(
            f"{given}: commit {commit[: git.SHORT]} is no kernel source: it has no {' and '.join(_KERNEL)}",
            hint="name a commit of a Linux tree",
        )


def _numbers(key: str) -> Iterator[int]:
    """Number the checkouts of a key: those that exist, and a new one."""
    last = next(number for number in itertools.count(1) if not cache_path("checkout", f"{key}.{number + 1}").exists())
    yield from range(1, last + 2)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _closed_on_error(handle: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(handle)
        raise

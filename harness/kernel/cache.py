# SPDX-License-Identifier: GPL-2.0-only
"""The kernel part of the cache: locked per entry, written atomically, safe to delete.

``apt/`` package indexes, ``source/`` unpacked sources, ``build/`` object trees, ``ready/`` what machines boot.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from harness.paths import cache_dir
from harness.progress import Phase

LOCK_DEADLINE_S = 3600.0


def place(*parts: str) -> Path:
    """A path in the kernel cache; its parent exists."""
    path = cache_dir().joinpath("kernel", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts: str | bytes) -> str:
    """16 hex digits that name this content."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8) + data)
    return h.hexdigest()[:16]


@contextmanager
def locked(entry: Path, step: Phase) -> Iterator[None]:
    """Hold the entry against other runs. The lock is the host kernel's (flock): it ends with its holder.

    Raises HarnessError after ``LOCK_DEADLINE_S`` seconds."""
    path = place("locks", f"{entry.parent.name}-{entry.name}.lock")
    lock = FileLock(path)
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            if time.monotonic() > deadline:
                raise HarnessError(f"another run has held {path} for an hour") from None
            step.progress(f"another run is at work on {entry.name}; waiting for it")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def fresh_dir(final: Path) -> Iterator[Path]:
    """A directory to fill; it becomes ``final``, all at once, if the body ends well, and vanishes if not."""
    final.parent.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        tmp.chmod(0o755)
        yield tmp
        shutil.rmtree(final, ignore_errors=True)
        tmp.rename(final)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Replace the file's content: a reader sees the old text or the new."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        tmp.write_text(text)
        tmp.rename(path)
    finally:
        tmp.unlink(missing_ok=True)


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Turns the host's ENOSPC into a HarnessError that says where space is missing."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space() from e


def require_room(size: int) -> None:
    """Raise HarnessError if the cache has less room than ``size`` bytes: not every program notices a full disk, and
    apt-get then waits for ever."""
    if shutil.disk_usage(cache_dir()).free < size:
        raise no_space()


def no_space() -> HarnessError:
    """The error for a full disk."""
    root = cache_dir()
    free = shutil.disk_usage(root).free / 2**30
    return HarnessError(
        f"no space left in the cache {root} ({free:.1f} GiB free)",
        hint="a kernel's source and build take 3 GiB: free some space, or point VFIO_HARNESS_CACHE at a larger disk",
    )

# SPDX-License-Identifier: GPL-2.0-only
"""Files of the host: atomic writes, locks, directories that appear whole, and the error for a full disk."""

import errno
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from harness.paths import cache_dir
from harness.progress import Phase

LOCK_DEADLINE_S = 3600.0
"""The longest wait for a lock: one run may build a debug kernel from nothing."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
CACHE_HINT = (
    "free some space, or point VFIO_HARNESS_CACHE at a larger disk: a kernel's source and build take 3 GiB, the guest "
    "image 500 MB"
)
_PROGRESS_EVERY = 10_000
"""Links made between two progress lines."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the content of ``path``. A reader sees the old content or the new, also after a crash of the harness.

    Bytes that are no UTF-8 are those that ``decode(errors="surrogateescape")`` has kept.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def fresh_dir(final: Path, mode: int = 0o755) -> Iterator[Path]:
    """Yield an empty directory that replaces ``final`` if the body succeeds, and is removed if it raises.

    The caller holds a lock on ``final``. So a partial directory found here is left from a killed run, and is removed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(mode=0o700)
        partial.chmod(mode)  # mkdir's mode is cut by the umask
        yield partial
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(lock: Path, subject: str, step: Phase) -> Iterator[None]:
    """Hold the lock file ``lock`` against other runs. It is an flock, so the host kernel releases it with its holder.

    ``subject`` names the locked thing in the progress line. Raises HarnessError after ``LOCK_DEADLINE_S`` seconds.
    """
    held = FileLock(lock)
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while True:
        try:
            held.acquire(timeout=1)
            break
        except Timeout:
            if time.monotonic() > deadline:
                raise HarnessError(f"another run has held {lock} for {LOCK_DEADLINE_S / 60:.0f} minutes") from None
            step.progress(f"waiting for another run that uses {subject}")
    try:
        yield
    finally:
        held.release()


@contextmanager
def disk_full_reported() -> Iterator[None]:
    """Turn ENOSPC and EDQUOT of the body into the error that names the cache's disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise disk_full() from error


def free_space(directory: Path) -> int:
    """Return how many bytes this user can write to the disk of ``directory``. Only root uses the reserved blocks."""
    disk = os.statvfs(directory)
    return (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize


def require_free_space(size: int) -> None:
    """Raise HarnessError if the cache's disk has less than ``size`` bytes free.

    Some programs do not notice a full disk; apt-get then waits forever."""
    if free_space(cache_dir()) < size:
        raise disk_full()


def disk_full(directory: Path | None = None, hint: str = CACHE_HINT) -> HarnessError:
    """Return the error for a full disk at ``directory``, by default at the cache."""
    where = directory or cache_dir()
    return HarnessError(f"no space left in {where} ({free_space(where) / 2**20:.1f} MiB free)", hint=hint)


# There are two symlink trees, because their readers differ. A build reads the whole tree and writes into its
# directories, so each file gets a link. Applying a change reads a few files, so whole directories are linked.


def update_file_links(source: Path, links: Path, names: Collection[str], step: Phase) -> None:
    """Make ``links`` a tree of directories with one symbolic link per file: ``names``, relative to ``source``.

    A list next to ``links`` records the names, so that the next call only adds and removes what differs.
    """
    record = links.with_name(f"{links.name}.harness-files")
    present = set(record.read_text().split("\0")) if links.is_dir() and record.exists() else set()
    for name in present - set(names):
        (links / name).unlink(missing_ok=True)
    _add_file_links(source, links, set(names) - present, step)
    write_atomically(record, "\0".join(sorted(names)))


def _add_file_links(source: Path, links: Path, names: Collection[str], step: Phase) -> None:
    """Add links, with the functions of ``os``: a kernel has ninety thousand files, and a Path each costs a second."""
    made: set[str] = set()
    for number, name in enumerate(names):
        if number % _PROGRESS_EVERY == 0:
            step.progress("linking the sources", number / len(names))
        target = os.path.join(links, name)  # noqa: PTH118
        parent = os.path.dirname(target)  # noqa: PTH120
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103
            made.add(parent)
        if os.path.lexists(target):
            os.unlink(target)  # noqa: PTH108
        os.symlink(f"{source}/{name}", target)  # noqa: PTH211


def overlay(source: Path, files: Mapping[str, bytes | None], top: Path) -> None:
    """Fill the empty directory ``top`` with ``source`` changed by ``files`` (None: removed).

    Only the directories on the way to a changed file are made; the rest are links to ``source``.
    """
    on_the_way = {str(parent) for name in files for parent in Path(name).parents}
    for directory in sorted(on_the_way):
        (top / directory).mkdir(exist_ok=True)
        for entry in (source / directory).iterdir() if (source / directory).is_dir() else ():
            name = str(Path(directory, entry.name))
            if name not in on_the_way and name not in files:
                (top / name).symlink_to(entry)
    for name, text in files.items():
        if text is not None:
            (top / name).write_bytes(text)
            if (source / name).exists():
                shutil.copymode(source / name, top / name)

# SPDX-License-Identifier: GPL-2.0-only
"""Directories in use. A process holds a shared flock on each directory that it uses, so no other removes it.

The host kernel releases the flock with the last process that has the file descriptor, forked workers included.
"""

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def hold(directory: Path, user: object) -> None:
    """Keep other processes from removing ``directory`` while ``user`` exists."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    weakref.finalize(user, os.close, handle)


LEAST_S = 3600.0
"""What was used within this time is not pruned, however little is to be kept: a run may just be about to hold it."""

IN_USE = "in use"
"""Why a directory that a process holds was kept."""


@contextmanager
def unheld(directory: Path) -> Iterator[bool]:
    """Yield whether no process holds ``directory``, and keep it so. False if it is gone, too."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def is_held(directory: Path) -> bool:
    """Return whether a process holds the directory."""
    with unheld(directory) as free:
        return not free and directory.exists()


def remove_unless_held(directory: Path) -> bool:
    """Remove the directory if no process holds it. Returns whether it is gone."""
    with unheld(directory) as free:
        if free:
            shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be, or was not."""

    path: Path
    size: int
    """Bytes on the disk."""
    kept: str = ""
    """Why it was not removed; empty if it was."""


def prune_held(directory: Path, *, dry_run: bool) -> Removed:
    """Remove the directory if no process holds it. ``dry_run``: only say what would be removed."""
    size = size_of(directory)
    held = is_held(directory) if dry_run else not remove_unless_held(directory)
    return Removed(directory, size, IN_USE if held else "")


def mark_used(directory: Path, user: object) -> None:
    """Note that a run uses an entry of the cache now, and hold it while ``user`` exists."""
    os.utime(directory)
    hold(directory, user)


def prune_unused(entries: Iterable[Path], keep_s: float, *, dry_run: bool) -> Iterator[Removed]:
    """Remove each directory whose latest use, its modification time, is ``keep_s`` seconds ago, and yield it.

    ``dry_run``: remove nothing.
    """
    before = time.time() - max(keep_s, LEAST_S)
    for directory in entries:
        if last_change(directory) < before:
            yield prune_held(directory, dry_run=dry_run)


def last_change(path: Path) -> float:
    """Return the Unix time of the last change of a file or directory; that of now if it is gone."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # another process removed it
        return time.time()


def size_of(path: Path) -> int:
    """Return how many bytes the file or directory takes on the disk."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in [".", *names]:
            try:
                total += os.lstat(f"{directory}/{name}").st_blocks * 512
            except FileNotFoundError:  # removed meanwhile
                continue
    return total or (path.lstat().st_blocks * 512 if path.is_file() else 0)

# SPDX-License-Identifier: GPL-2.0-only
"""The kernel part of the cache: locked per entry, written atomically, safe to delete.

``apt/`` package indexes, ``source/`` unpacked sources, ``git/`` bare repositories, ``checkout/`` commits of them,
``farm/`` symlink trees of unclean sources, ``build/`` object trees, ``changed/`` workspaces of changed kernels,
``external/`` modules of the harness, ``ready/`` bootable copies, ``series/`` fetched patches, ``bisect/`` checkouts of
bisections, ``locks/`` lock files.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.host import files
from harness.paths import cache_dir
from harness.progress import Phase


def cache_path(*parts: str) -> Path:
    """Return a path in the kernel cache, and create its parent."""
    path = cache_dir().joinpath("kernel", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts: str | bytes) -> str:
    """Return 16 hex digits that name this content."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8) + data)
    return sha.hexdigest()[:16]


@contextmanager
def locked_now(entry: Path) -> Iterator[bool]:
    """Lock one entry of the cache if no other run has it. Yields whether it is locked."""
    held = FileLock(_lock_of(entry))
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def locked(entry: Path, step: Phase) -> AbstractContextManager[None]:
    """Lock one entry of the cache against other runs. Raises HarnessError after ``files.LOCK_DEADLINE_S`` seconds."""
    return files.locked(_lock_of(entry), entry.name, step)


def _lock_of(entry: Path) -> Path:
    return cache_path("locks", f"{entry.parent.name}-{entry.name}.lock")

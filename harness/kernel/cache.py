# SPDX-License-Identifier: GPL-2.0-only
"""The kernel part of the cache: locked per entry, written atomically, safe to delete.

``apt/`` package indexes, ``source/`` unpacked sources, ``git/`` bare repositories, ``checkout/`` commits of them,
``farm/`` symlink trees of unclean sources, ``build/`` object trees, ``changed/`` workspaces of changed kernels,
``external/`` modules of the harness, ``ready/`` bootable copies, ``series/`` fetched patches, ``bisect/`` checkouts of
bisections, ``locks/`` lock files.
"""

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path

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


def locked(entry: Path, step: Phase) -> AbstractContextManager[None]:
    """Lock one entry of the cache against other runs. Raises HarnessError after ``files.LOCK_DEADLINE_S`` seconds."""
    return files.locked(cache_path("locks", f"{entry.parent.name}-{entry.name}.lock"), entry.name, step)

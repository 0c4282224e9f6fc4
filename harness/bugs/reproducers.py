# SPDX-License-Identifier: GPL-2.0-only
"""The reproducers of the catalogue: one C file for a bug that is live, beside its entry."""

from pathlib import Path

from harness import paths


def reproducer(bug_id: str) -> Path | None:
    """Return the C file that shows the bug, ``vm-configs/bugs/ID.c``; None if it has none.

    `vfio-harness reproducer make` wrote it, and `vfio-harness reproducer check` runs it. It compiles on its own.
    """
    path = paths.bugs_dir() / f"{bug_id}.c"
    return path if path.is_file() else None

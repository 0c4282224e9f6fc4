# SPDX-License-Identifier: GPL-2.0-only
"""Remove the fetched QEMUs that no run has used for a while. A run that needs one again fetches it."""

import time
from collections.abc import Iterator
from pathlib import Path

from harness.host.held import LEAST_S, Removed, is_held, remove_unless_held, size_of
from harness.vm.debian_qemu import fetched


def prune_qemus(keep_s: float, *, dry_run: bool) -> Iterator[Removed]:
    """Remove each QEMU of ``QEMU=debian:VERSION`` that no run has used for ``keep_s`` seconds, and yield it.

    ``dry_run``: remove nothing.
    """
    before = time.time() - max(keep_s, LEAST_S)
    for directory in fetched():
        if _used(directory) < before:
            size = size_of(directory)
            held = is_held(directory) if dry_run else not remove_unless_held(directory)
            yield Removed(directory, size, "in use" if held else "")


def _used(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except FileNotFoundError:  # another process removed it
        return time.time()

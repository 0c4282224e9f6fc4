# SPDX-License-Identifier: GPL-2.0-only
"""Remove the fetched QEMUs that no run has used for a while. A run that needs one again fetches it."""

import time
from collections.abc import Iterator

from harness.host.held import LEAST_S, Removed, last_change, prune_held
from harness.vm.debian_qemu import fetched


def prune_qemus(keep_s: float, *, dry_run: bool) -> Iterator[Removed]:
    """Remove each QEMU of ``QEMU=debian:VERSION`` that no run has used for ``keep_s`` seconds, and yield it.

    ``dry_run``: remove nothing.
    """
    before = time.time() - max(keep_s, LEAST_S)
    for directory in fetched():
        if last_change(directory) < before:
            yield prune_held(directory, dry_run=dry_run)

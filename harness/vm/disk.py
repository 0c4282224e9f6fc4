# SPDX-License-Identifier: GPL-2.0-only
"""Check that the disk has room for console and trace. On a full disk QEMU silently drops output, and so evidence."""

import errno
import os
from pathlib import Path

from harness.errors import HarnessError

ROOM = 1 << 20
"""Bytes that must stay free: far more than QEMU writes between two checks."""


def shortage(directory: Path) -> HarnessError | None:
    """Return an error if ``directory`` has too little room, else None."""
    disk = os.statvfs(directory)
    free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
    if free >= ROOM:
        return None
    return HarnessError(
        f"{directory}: {os.strerror(errno.ENOSPC)}: {free >> 10} KiB are left for the console and the trace",
        hint="make room, or set VFIO_HARNESS_RESULTS",
    )

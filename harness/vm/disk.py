# SPDX-License-Identifier: GPL-2.0-only
"""Room for console and trace: QEMU drops what the disk does not take, without a word, and with it evidence."""

import errno
import os
from pathlib import Path

from harness.errors import HarnessError

ROOM = 1 << 20
"""Bytes that must stay free: far more than QEMU writes between two looks."""


def shortage(directory: Path) -> HarnessError | None:
    """What is wrong if ``directory`` has too little room."""
    disk = os.statvfs(directory)
    free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
    if free >= ROOM:
        return None
    return HarnessError(
        f"{directory}: {os.strerror(errno.ENOSPC)}: {free >> 10} KiB are left for the console and the trace",
        hint="make room, or set VFIO_HARNESS_RESULTS",
    )

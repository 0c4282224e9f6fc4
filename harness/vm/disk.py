# SPDX-License-Identifier: GPL-2.0-only
"""Check that the disk has room for console and trace. On a full disk QEMU silently drops output, and so evidence."""

from pathlib import Path

from harness.errors import HarnessError
from harness.host.files import disk_full, free_space

ROOM = 1 << 20
"""Bytes that must stay free: far more than QEMU writes between two checks."""


def shortage(directory: Path) -> HarnessError | None:
    """Return an error if ``directory`` has too little room, else None."""
    if free_space(directory) >= ROOM:
        return None
    return disk_full(directory, hint="make room for the console and the trace, or set VFIO_HARNESS_RESULTS")

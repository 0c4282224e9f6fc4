# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's counters of memory."""

from pathlib import Path


def pins() -> int:
    """Count the pages that are pinned in the whole kernel (/proc/vmstat, nr_foll_pin_*).

    Each processor adds to the counters now and then. ``stat_refresh`` makes it do so at once (mm/vmstat.c).
    """
    Path("/proc/sys/vm/stat_refresh").write_text("1")
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines["nr_foll_pin_acquired"]) - int(lines["nr_foll_pin_released"])

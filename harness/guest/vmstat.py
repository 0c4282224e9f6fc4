# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's counters of memory."""

from . import files


def pins() -> int:
    """Count the pages that are pinned in the whole kernel (/proc/vmstat, nr_foll_pin_*).

    Each processor adds to the counters now and then. ``stat_refresh`` makes it do so at once (mm/vmstat.c).
    """
    files.write("/proc/sys/vm/stat_refresh", "1")
    lines = dict(line.split() for line in files.read_text("/proc/vmstat").splitlines())
    return int(lines["nr_foll_pin_acquired"]) - int(lines["nr_foll_pin_released"])

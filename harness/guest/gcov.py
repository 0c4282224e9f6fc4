# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's gcov counters (kernel/gcov/fs.c). Needs CONFIG_GCOV_KERNEL."""

import os

from . import files

GCOV = "/sys/kernel/debug/gcov"


def reset() -> None:
    """Set every counter to 0."""
    files.write(f"{GCOV}/reset", "1")


def read() -> dict[str, bytes]:
    """Return the counters of every instrumented object: its .gcda, by its path below the debugfs directory."""
    paths = (f"{folder}/{name}" for folder, _, names in os.walk(GCOV) for name in names if name.endswith(".gcda"))
    return {path.removeprefix(f"{GCOV}/"): files.read(path) for path in paths}

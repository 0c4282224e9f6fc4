# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's gcov counters (kernel/gcov/fs.c). Needs CONFIG_GCOV_KERNEL."""

from pathlib import Path

GCOV = Path("/sys/kernel/debug/gcov")


def reset() -> None:
    """Set every counter to 0."""
    (GCOV / "reset").write_text("1")


def read() -> dict[str, bytes]:
    """Return the counters of every instrumented object: its .gcda, by its path below the debugfs directory."""
    return {str(path.relative_to(GCOV)): path.read_bytes() for path in GCOV.rglob("*.gcda")}

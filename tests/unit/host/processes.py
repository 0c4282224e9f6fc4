# SPDX-License-Identifier: GPL-2.0-only
"""Whether a process has ended, for tests that are not its parent."""

import time
from pathlib import Path


def gone(pid: int) -> bool:
    """Return whether a process has ended. A zombie has: a container may have no init that reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int, deadline_s: float = 5.0) -> None:
    """Wait for the end of a process: even after SIGKILL it takes a moment."""
    deadline = time.monotonic() + deadline_s
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is alive after {deadline_s:g} s"
        time.sleep(0.005)

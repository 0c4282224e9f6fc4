# SPDX-License-Identifier: GPL-2.0-only
"""Tell whether a process that is no child of the test has ended."""

import time
from pathlib import Path

DEADLINE_S = 20.0


def gone(pid: int) -> bool:
    """Whether the process has ended. It may still be a zombie: in a container, nobody may reap an orphan."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process. It takes a moment even after SIGKILL."""
    deadline = time.monotonic() + DEADLINE_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is alive"
        time.sleep(0.005)

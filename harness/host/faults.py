# SPDX-License-Identifier: GPL-2.0-only
"""Recognise the host's fault in what a program printed: a full disk, a missing tool, no memory.

Each of these also ends as an error of make, patch or gcc, which would blame the kernel's source."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite
from harness.host.files import disk_full
from harness.host.packages import install_line


def _full(match: re.Match[str]) -> HarnessError:
    return disk_full()


def _missing(match: re.Match[str]) -> HarnessError:
    name = Path(match["tool"]).name
    return MissingPrerequisite(f"{name} is not installed", hint=install_line([name]))


def _killed(match: re.Match[str]) -> HarnessError:
    return HarnessError("the compiler was killed: the host is out of memory", hint="close programs, or add swap")


# The words of libc, lz4 and apt for a full disk; of sh and make for a missing program; of gcc for the rest.
_FAULTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], HarnessError]], ...] = (
    (
        re.compile(
            r"No space left on device|Disk quota exceeded|not all data was written|You don't have enough free space"
        ),
        _full,
    ),
    (re.compile(r"^(?:/bin/)?sh: (?:\d+: |line \d+: )?(?P<tool>[\w./+-]+): (?:command )?not found"), _missing),
    (re.compile(r"^make.*: (?P<tool>[\w./+-]+): No such file or directory$"), _missing),
    (re.compile(r"fatal error: (?P<tool>gelf\.h|libelf\.h): No such file"), _missing),
    (re.compile(r"fatal error: Killed signal terminated program"), _killed),
)


def host_fault(lines: Sequence[str]) -> HarnessError | None:
    """Return the error for the first fault of the host that ``lines`` report, or None."""
    for pattern, error in _FAULTS:
        for line in lines:
            if match := pattern.search(line):
                return error(match)
    return None

# SPDX-License-Identifier: GPL-2.0-only
"""Find why a build failed from what make and its tools printed: the source's first error, or the host's fault."""

import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, KernelBuildError
from harness.host.faults import host_fault

QUOTED_LINES = 6
"""The most lines quoted: an error, and after it the source line, the caret, the note."""
_NEXT = re.compile(r"^make\b|^  [A-Z]|^compilation terminated|: (?:fatal )?error: |: warning: ")
"""A line that no longer explains the error above it."""

# The first pattern that matches any line wins: compilers before linkers before make.
_SOURCE_ERRORS = tuple(
    map(
        re.compile,
        (
            r"^\S+?:\d+(?::\d+)?: (?:fatal )?error: ",
            r"^\S*Kconfig\S*:\d+: ",
            r"^ERROR: modpost: ",
            r"^\S*ld: ",
            r"undefined reference to|multiple definition of",
            r": error: objtool: ",
            r"^error: the following would cause module name conflict",
            r"^\S+:\d+: \*\*\* ",
            r"^make(?:\[\d+\])?: \*\*\* No rule",
            r"^make(?:\[\d+\])?: \*\*\* ",
        ),
    )
)


def first_error(lines: Sequence[str]) -> str:
    """Return the first error in make's output with the compiler's explanation; without a known one, the last line."""
    for pattern in _SOURCE_ERRORS:
        for number, line in enumerate(lines):
            if pattern.search(line):
                return "\n".join(_with_explanation(lines[number : number + QUOTED_LINES]))
    return lines[-1] if lines else "make printed nothing"


def _with_explanation(lines: Sequence[str]) -> Sequence[str]:
    ends = (number for number, line in enumerate(lines) if number and _NEXT.search(line))
    return lines[: next(ends, len(lines))]


def build_failure(what: Path, lines: Sequence[str], log: Path) -> HarnessError:
    """Return the exception for a failed build of the sources in ``what``; paths in the quote are relative to it."""
    fault = host_fault(lines)
    if fault is not None:
        return fault
    quote = first_error(lines).replace(f"{what}/", "")
    return KernelBuildError(f"{what} does not build:\n{quote}", hint=f"the whole output: {log}")

# SPDX-License-Identifier: GPL-2.0-only
"""Why a build failed, from what make and its tools printed: the kernel's fault or the host's, and where."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError, KernelBuildError, MissingPrerequisite
from harness.host.files import disk_full
from harness.host.packages import install_line

QUOTED_LINES = 6
"""An error is quoted with what follows it: the source line, the caret, the note."""
_NEXT = re.compile(r"^make\b|^  [A-Z]|^compilation terminated|: (?:fatal )?error: |: warning: ")
"""Where the explanation of an error ends."""


def _missing(match: re.Match[str]) -> HarnessError:
    name = Path(match["tool"]).name
    return MissingPrerequisite(f"the kernel build needs {name}", hint=install_line([name]))


def _killed(match: re.Match[str]) -> HarnessError:
    return HarnessError("the compiler was killed: the host is out of memory", hint="close programs, or add swap")


# The host is to blame: looked for first, since each of these also ends as an error of make.
_HOST: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], HarnessError]], ...] = (
    (re.compile(r"No space left on device|Disk quota exceeded|not all data was written"), lambda m: disk_full()),
    (re.compile(r"^(?:/bin/)?sh: (?:\d+: |line \d+: )?(?P<tool>[\w./+-]+): (?:command )?not found"), _missing),
    (re.compile(r"^make.*: (?P<tool>[\w./+-]+): No such file or directory$"), _missing),
    (re.compile(r"fatal error: (?P<tool>gelf\.h|libelf\.h): No such file"), _missing),
    (re.compile(r"fatal error: Killed signal terminated program"), _killed),
)

# The source is to blame; the first pattern that matches any line wins, compilers before linkers before make.
_SOURCE = tuple(
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


def host_fault(lines: Sequence[str]) -> HarnessError | None:
    """The host's fault these lines tell of, if any: full disk, missing tool, no memory."""
    for pattern, fault in _HOST:
        for line in lines:
            if match := pattern.search(line):
                return fault(match)
    return None


def first_error(lines: Sequence[str]) -> str:
    """The first error in make's output, with the compiler's explanation, or its last line if none is known."""
    for pattern in _SOURCE:
        for number, line in enumerate(lines):
            if pattern.search(line):
                return "\n".join(_with_context(lines[number : number + QUOTED_LINES]))
    return lines[-1] if lines else "make said nothing"


def _with_context(lines: Sequence[str]) -> Sequence[str]:
    ends = (n for n, line in enumerate(lines) if n and _NEXT.search(line))
    return lines[: next(ends, len(lines))]


def build_failure(what: Path, lines: Sequence[str], log: Path) -> HarnessError:
    """The exception for a failed build of the sources in ``what``, to which paths in the quote are relative."""
    fault = host_fault(lines)
    if fault is not None:
        return fault
    quote = first_error(lines).replace(f"{what}/", "")
    return KernelBuildError(f"{what} does not build:\n{quote}", hint=f"the whole output: {log}")

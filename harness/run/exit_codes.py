# SPDX-License-Identifier: GPL-2.0-only
"""Exit codes of ``vfio-harness``, and those that ``git bisect run`` expects from ``run --bisect``."""

from collections.abc import Collection
from dataclasses import dataclass

from harness.errors import HarnessError, KernelError
from harness.verdict import Verdict, exit_code

SKIP = 125
"""git-bisect: this commit cannot be judged, try another."""
ABORT = 128
"""git-bisect stops at this code and above, and marks no commit. A lower one marks a bad commit."""


def code_of_cases(verdicts: Collection[Verdict]) -> int:
    """Return git-bisect's code: 0 good, 1 bad, 125 if every case was skipped, 131 for an ERROR."""
    return SKIP if {*verdicts} == {Verdict.SKIP} else safe(exit_code(list(verdicts)))


def code_of_error(error: HarnessError) -> int:
    """Return git-bisect's code for an error before the first case.

    A kernel that does not build or lacks the feature is skipped, not bad.
    """
    return SKIP if isinstance(error, KernelError) else safe(error.exit_code)


def safe(code: int) -> int:
    """Raise codes that say nothing about the commit above ``ABORT``: 2 becomes 130, 3 becomes 131."""
    return code if code in (0, 1, SKIP) or code >= ABORT else ABORT + code


@dataclass
class ExitCodes:
    """How this process maps its end to an exit code; the context object of the command line."""

    bisect: bool = False
    """``git bisect run`` reads the code."""

    def of_error(self, error: HarnessError) -> int:
        """Return the code of an error before the first case."""
        return code_of_error(error) if self.bisect else error.exit_code

    def final(self, code: int) -> int:
        """Return the code to exit with."""
        return safe(code) if self.bisect else code

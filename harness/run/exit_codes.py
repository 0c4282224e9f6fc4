# SPDX-License-Identifier: GPL-2.0-only
"""Which commit broke a case: ``run --bisect`` is what git-bisect runs, ``vfio-harness bisect`` runs git-bisect."""

from collections.abc import Collection

from harness.errors import HarnessError, KernelError
from harness.verdict import Verdict, exit_code

SKIP = 125
"""This commit cannot be judged: try another."""
ABORT = 128
"""From here on git-bisect stops, and marks no commit. Less is a bad commit."""


def code_of_cases(verdicts: Collection[Verdict]) -> int:
    """0 good, 1 bad, 125 if nothing could be shown on this kernel, 131 for an ERROR."""
    return SKIP if {*verdicts} == {Verdict.SKIP} else safe(exit_code(list(verdicts)))


def code_of_error(error: HarnessError) -> int:
    """What ended a run before its first case: a kernel that does not build, or lacks the feature, is no bad one."""
    return SKIP if isinstance(error, KernelError) else safe(error.exit_code)


def safe(code: int) -> int:
    """The exit code, without one that would mark a commit though it says nothing about it: 2 becomes 130, 3 131."""
    return code if code in (0, 1, SKIP) or code >= ABORT else ABORT + code

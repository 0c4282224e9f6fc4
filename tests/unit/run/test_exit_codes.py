# SPDX-License-Identifier: GPL-2.0-only
"""The exit codes of ``run --bisect``: git-bisect stops at codes over 127, and skips a commit at 125."""

import pytest

from harness.errors import HarnessError, KernelBuildError, KernelLacksFeature, UsageError
from harness.run import exit_codes
from harness.verdict import Verdict


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["PASS", "KNOWN", "FIXED", "SKIP"], 0),
        (["PASS", "FAIL"], 1),
        (["SPLAT", "ERROR"], 1),
        (["SKIP", "SKIP"], 125),
        (["PASS", "ERROR"], 131),
    ],
)
def test_exit_code_of_the_cases(verdicts: list[str], code: int) -> None:
    assert exit_codes.code_of_cases([Verdict(verdict) for verdict in verdicts]) == code


def test_failure_of_the_harness_marks_no_commit() -> None:
    assert exit_codes.code_of_error(KernelBuildError("x")) == 125
    assert exit_codes.code_of_error(KernelLacksFeature("x", origin="y")) == 125
    assert exit_codes.code_of_error(UsageError("x")) > 127
    assert exit_codes.code_of_error(HarnessError("x")) > 127
    assert [exit_codes.safe(code) for code in (0, 1, 2, 3, 4, 125, 126, 130)] == [0, 1, 130, 131, 132, 125, 254, 130]

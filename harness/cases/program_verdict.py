# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of a program of others that reports KTAP: a test of the kernel's own tree, or of rdma-core.

Its judgement is taken as it is: a FAIL names the tests that it reports as failed. A program that ends before it has
judged is ERROR.
"""

import pytest

from harness.cases import ktap
from harness.cases.must import must
from harness.errors import HarnessError

KSFT_SKIP = 4
"""The exit status of a program that skipped (tools/testing/selftests/kselftest.h)."""


def judge(name: str, status: int | None, output: str, seconds: float, *, whose: str) -> None:
    """Raise what makes the case FAIL, SKIP or ERROR; return if the program passed.

    ``status``: its exit status, None if it did not end within ``seconds``. ``whose``: "a test of the kernel's own".
    """
    report = ktap.read(output)
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    if report.timed_out:
        raise HarnessError(f"{name}: its own timeout ended {', '.join(report.timed_out)}: is the host too slow?")
    must(not report.named("failed"), f"{name}, {whose}, passes", report.named("failed"))
    all_skipped = report.skipped or (report.results and not report.named("passed"))
    if status == KSFT_SKIP or (status == 0 and all_skipped):
        pytest.skip(report.skipped or next((result.why for result in report.results), last))
    if status != 0 or report.planned != len(report.results):
        ended = f"within {seconds:.0f} s it did not end" if status is None else f"it ended with status {status}"
        raise HarnessError(f"{name} gave {len(report.results)} of {report.planned or 'its'} verdicts; {ended}: {last}")

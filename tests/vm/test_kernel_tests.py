# SPDX-License-Identifier: GPL-2.0-only
"""Suites ``kselftest-*``: the tests of the kernel's own tree, one program a case (vm-configs/kernel-tests.yaml).

Their judgement is taken as it is: a FAIL names the tests that they report as failed. A program that ends before it has
judged is ERROR.
"""

import pytest

from harness.cases import ktap
from harness.cases.kernel_tests import Program, programs
from harness.cases.marks import rows_in
from harness.cases.must import must
from harness.cases.types import BuildKernelTest
from harness.errors import HarnessError
from harness.session import Session
from harness.session.program import run_program

rows = rows_in("kernel tests")

KSFT_SKIP = 4
"""The exit status of a program that skipped (tools/testing/selftests/kselftest.h)."""
PROGRAM_SECONDS = 60.0


@rows("around.kernel-tests")
@pytest.mark.parametrize("kernel_test", programs(), ids=str)
def test_program(session: Session, build_kernel_test: BuildKernelTest, kernel_test: Program) -> None:
    """A program of the kernel's own tests reports no failure."""
    program, content = kernel_test, build_kernel_test(kernel_test)
    session.bind(program.device)
    status, output = run_program(session, content, [session.bdf(program.device)], PROGRAM_SECONDS)
    report = ktap.read(output)
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    if report.timed_out:
        raise HarnessError(
            f"{program.name}: its own timeout ended {', '.join(report.timed_out)}: is the host too slow?"
        )
    must(not report.named("failed"), f"{program.name}, a test of the kernel's own, passes", report.named("failed"))
    if status == KSFT_SKIP or report.skipped or (report.results and not report.named("passed")):
        pytest.skip(report.skipped or next((result.why for result in report.results), last))
    if status != 0 or report.planned != len(report.results):
        ended = f"within {PROGRAM_SECONDS:.0f} s it did not end" if status is None else f"it ended with status {status}"
        raise HarnessError(
            f"{program.name} gave {len(report.results)} of {report.planned or 'its'} verdicts; {ended}: {last}"
        )

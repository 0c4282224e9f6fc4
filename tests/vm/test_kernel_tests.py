# SPDX-License-Identifier: GPL-2.0-only
"""Suites ``kselftest-*``: the tests of the kernel's own tree, one program a case (vm-configs/kernel-tests.yaml).

Their judgement is taken as it is: a FAIL says that the kernel's own test fails, and which.
"""

import pytest

from harness.cases import ktap
from harness.cases.kernel_tests import Program, programs
from harness.cases.marks import rows_in
from harness.cases.must import must
from harness.cases.types import BuildKernelTest
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
    must(status is not None, f"{program.name}, a test of the kernel's own, ends within {PROGRAM_SECONDS:.0f} s", last)
    must(not report.named("failed"), f"{program.name}, a test of the kernel's own, passes", report.named("failed"))
    if status == KSFT_SKIP or report.skipped or (report.results and not report.named("passed")):
        pytest.skip(report.skipped or next((result.why for result in report.results), last))
    must(status == 0, f"{program.name}, a test of the kernel's own, exits with 0", f"{status}: {last}")
    seen = f"{len(report.results)} of {report.planned}"
    must(report.planned == len(report.results) > 0, f"{program.name} reports each test that it announces", seen)

# SPDX-License-Identifier: GPL-2.0-only
"""Suites ``kselftest-*``: the tests of the kernel's own tree, one program a case (vm-configs/kernel-tests.yaml).

Their judgement is taken as it is (harness/cases/program_verdict.py).
"""

import pytest

from harness.cases.kernel_tests import Program, programs
from harness.cases.marks import rows_in
from harness.cases.program_verdict import judge
from harness.cases.types import BuildKernelTest
from harness.session import Session
from harness.session.program import run_program

rows = rows_in("kernel tests")


@rows("around.kernel-tests")
@pytest.mark.parametrize(
    "kernel_test", [pytest.param(each, id=str(each), marks=pytest.mark.needs(*each.tests.needs)) for each in programs()]
)
def test_program(session: Session, build_kernel_test: BuildKernelTest, kernel_test: Program) -> None:
    """A program of the kernel's own tests reports no failure."""
    tests, content, args = kernel_test.tests, build_kernel_test(kernel_test), []
    if device := tests.device_on(session.machine.config.name):
        session.bind(device)
        args = [session.bdf(device)]
    status, output = run_program(session, content, args, tests.seconds, tests.huge_pages)
    judge(kernel_test.name, status, output, tests.seconds, whose="a test of the kernel's own")

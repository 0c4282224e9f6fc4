# SPDX-License-Identifier: GPL-2.0-only
"""Suite ``rdma-core``: its own tests on rxe, one module a case (vm-configs/rdma-core.yaml).

Their judgement is taken as it is (harness/cases/program_verdict.py).
"""

import pytest

from harness.cases.marks import rows_in
from harness.cases.program_verdict import judge
from harness.cases.rdma_core import RUNNER, rdma_core
from harness.session import Session
from harness.session.program import run_program

rows = rows_in("rdma-core")


@rows("around.rdma-core")
@pytest.mark.needs("rxe")
@pytest.mark.parametrize("module", rdma_core().modules)
def test_module(session: Session, module: str) -> None:
    """A module of rdma-core's own tests reports no failure on rxe."""
    tests = rdma_core()
    link, gid = session.add_rxe_link()  # the first GID is one of IPv6, which the kernels under test do not have
    status, output = run_program(
        session, RUNNER.read_bytes(), [link, str(gid), *tests.arguments(module)], tests.seconds
    )
    judge(module, status, output, tests.seconds, whose="a test of rdma-core's own")

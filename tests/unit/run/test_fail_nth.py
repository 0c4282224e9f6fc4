# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-nth``: a case runs in passes until no failure is left to try, and each pass is judged."""

from typing import Any, cast

import pytest

from harness.cases.must import ContractBroken
from harness.errors import UsageError
from harness.kernel import Kernel
from harness.run import fail_nth
from harness.run.fail_nth import FailNth
from harness.session import Session

SITE = "VFIO_DEVICE_RESET 1"
LEAK = """unreferenced object 0xffff888100a01280 (size 32):
  comm "python3", pid 54, jiffies 4294900000
  backtrace (crc 0):
    dma_buf_phys_vec_to_sgt+0x11/0x20
"""


class Agent:
    """Answers the calls of a sweep. ``ends``: what each pass found. ``report``: kmemleak's."""

    def __init__(self, *ends: dict[str, Any], report: str = "") -> None:
        self.ends = [{"next": {}, "refused": {}, "survived": [], "left": [], **each} for each in ends]
        self.report = report
        self.firsts: list[dict[str, int]] = []

    def call(self, on: str, do: str, **args: Any) -> Any:
        if (on, do) == ("fail_nth", "begin"):
            self.firsts.append(args["first"])
        return {
            "begin": lambda: None,
            "end": lambda: self.ends.pop(0),
            "forget": lambda: 4294800000,
            "scan": lambda: self.report,
        }[do]()


def run(agent: Agent) -> FailNth:
    """Run the passes of a case."""
    session = cast(Session, type("Stub", (), {"agent": agent})())
    case = FailNth()
    while True:
        case.begin(session)
        case.judge(session, case.end(session))
        if case.finished:
            return case


def test_passes_go_on_where_the_last_one_ended() -> None:
    agent = Agent({"next": {SITE: 3}, "refused": {SITE: 1}, "survived": [f"{SITE}, allocation 2"]}, {"next": {SITE: 0}})
    assert str(run(agent)).endswith(f"2 passes; failures that refused a call, and that did not: {SITE} 1 and 1")
    assert agent.firsts == [{}, {SITE: 3}]


def test_a_reference_that_is_left_breaks_the_contract() -> None:
    with pytest.raises(ContractBroken, match=r"no dma-buf and no reference.*dma-bufs was 1, is 2"):
        run(Agent({"left": ["dma-bufs was 1, is 2"]}))


def test_a_leak_breaks_the_contract() -> None:
    with pytest.raises(ContractBroken, match=r"leaks no memory.*dma_buf_phys_vec_to_sgt"):
        run(Agent({}, report=LEAK))


def test_a_kernel_without_fault_injection_is_refused() -> None:
    kernel = type("Stub", (), {"features": {"failslab": False, "kmemleak": True}})()
    with pytest.raises(UsageError, match="lacks failslab"):
        fail_nth.require(cast(Kernel, kernel))

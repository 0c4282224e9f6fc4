# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-nth``: a case runs in passes until no failure is left to try, and each pass is judged."""

from pathlib import Path
from types import SimpleNamespace
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


def run(agent: Agent, *, kmemleak: bool = True) -> FailNth:
    """Run the passes of a case."""
    session = cast(Session, type("Stub", (), {"agent": agent})())
    case = FailNth(kmemleak=kmemleak)
    while True:
        case.begin(session)
        case.judge(session, case.end(session))
        if case.finished:
            return case


def test_passes_go_on_where_the_last_one_ended() -> None:
    agent = Agent({"next": {SITE: 3}, "refused": {SITE: 1}, "survived": [f"{SITE}, allocation 2"]}, {"next": {SITE: 0}})
    assert str(run(agent)).endswith(f"2 passes; failures that refused a call, and that did not: {SITE} 1 and 1")
    assert agent.firsts == [{}, {SITE: 3}]


def test_a_call_that_a_later_pass_does_not_make_is_not_awaited() -> None:
    other = "VFIO_DEVICE_ATTACH_IOMMUFD_PT 2"
    agent = Agent({"next": {SITE: 3, other: 5}}, {"next": {SITE: 0}})
    run(agent)
    assert agent.firsts == [{}, {SITE: 3, other: 5}]


def test_a_reference_that_is_left_breaks_the_contract() -> None:
    with pytest.raises(ContractBroken, match=r"no dma-buf, pin or reference.*dma-bufs was 1, is 2"):
        run(Agent({"left": ["dma-bufs was 1, is 2"]}))


def test_a_leak_breaks_the_contract() -> None:
    with pytest.raises(ContractBroken, match=r"leaks no memory.*dma_buf_phys_vec_to_sgt"):
        run(Agent({}, report=LEAK))


def test_without_kmemleak_no_leaks_are_read() -> None:
    assert run(Agent({}, report=LEAK), kmemleak=False).finished


def test_a_kernel_without_fault_injection_is_refused() -> None:
    kernel = SimpleNamespace(features={"failslab": False}, rxe=SimpleNamespace(reason=""), importer_absent="")
    with pytest.raises(UsageError, match="lacks failslab: CONFIG_FAILSLAB or") as refused:
        fail_nth.require(cast(Kernel, kernel))
    assert "guest-images/kernel/fault-injection.config" in str(refused.value.hint)


def test_each_listed_case_exists() -> None:
    assert all("tests/vm/test_" in node for node in fail_nth.listed_nodes())


def test_a_case_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "fail-nth.yaml"
    listed.write_text("calls: {}\ncases: [test_export::test_no_such_export]\n")
    monkeypatch.setattr(fail_nth, "PATH", listed)
    with pytest.raises(UsageError, match="cases: 'test_export::test_no_such_export' is no case"):
        fail_nth.listed_nodes()

# SPDX-License-Identifier: GPL-2.0-only
"""The second VM is an instrument: neither its end nor that of the exporter is a refusal by a kernel."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import GuestHung, GuestLost, HarnessError, ImporterRefused, QemuDied
from harness.run.judge import judge
from harness.session.peer import RemoteWindow, Requester, errors_of_the_peer
from harness.session.wire import Ref
from harness.verdict import Verdict


def test_a_peer_that_hangs_is_an_error_with_its_evidence() -> None:
    hung = GuestHung("write in the guest: no answer within 30.0 s")
    hung.add_note("the stacks")
    with (
        pytest.raises(HarnessError, match="the peer VM: write in the guest") as caught,
        errors_of_the_peer(),
    ):
        raise hung
    assert caught.value.__notes__ == ["the stacks"]
    assert not isinstance(caught.value, GuestLost)
    assert judge([caught.value], []).verdict is Verdict.ERROR


class RefusingAgent:
    def call(self, *args: Any, **named: Any) -> Any:
        raise ImporterRefused("IBV_WC_RETRY_EXC_ERR")

    def set_name(self, ref: Ref, name: str) -> None:
        pass


def remote_window(exporter: Any) -> RemoteWindow:
    window = SimpleNamespace(importer=None, dmabuf=None, start=0, length=0x1000)
    requester = cast(Requester, SimpleNamespace(agent=RefusingAgent()))
    return RemoteWindow(requester, Ref(1), cast(Any, window), exporter)


def test_a_requester_is_refused_by_a_machine_that_runs() -> None:
    with pytest.raises(ImporterRefused, match="IBV_WC_RETRY_EXC_ERR"):
        remote_window(SimpleNamespace(check=lambda: None)).write(0, b"x")


def test_a_machine_that_is_gone_refuses_nothing() -> None:
    def gone() -> None:
        raise QemuDied("QEMU is gone: pid 7, killed by SIGKILL")

    with pytest.raises(QemuDied):
        remote_window(SimpleNamespace(check=gone)).write(0, b"x")

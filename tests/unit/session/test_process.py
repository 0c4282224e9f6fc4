# SPDX-License-Identifier: GPL-2.0-only
"""Calls into a forked process: replies, errnos, the end of the process, and evidence."""

import json
from typing import Any, cast

import pytest

from harness.errors import KernelErrno, ProcessEnded
from harness.session.client import Agent
from harness.session.device import Device
from harness.session.export import MAINLINE
from harness.session.process import Process
from harness.session.wire import Ref


class FakeAgent:
    """Forks at once, and answers each request to the forked process with the next reply."""

    slowdown = 1.0

    def __init__(self, *replies: bytes) -> None:
        self.lines: list[str] = []
        self.on_call = self.lines.append
        self.requests: list[dict[str, Any]] = []
        self._replies = list(replies)

    def set_name(self, ref: Ref, name: str) -> None:
        pass

    def call(self, on: str | Ref, do: str, **args: Any) -> Any:
        if do == "fork":
            return Ref(7)
        assert (on, do) == (Ref(7), "ask")
        self.requests.append(json.loads(args["line"]))
        return self._replies.pop(0)


def device_in(agent: FakeAgent) -> Device:
    process = Process(cast(Agent, agent))
    return process.copy_of(Device(cast(Agent, agent), Ref(3), "0000:01:00.0", MAINLINE))


def test_a_copy_calls_the_process() -> None:
    agent = FakeAgent(b'{"id": 1, "ok": 6}\n')
    assert device_in(agent).command() == 6
    (request,) = agent.requests
    assert (request["on"], request["do"]) == (3, "command")
    assert agent.lines == ["in a forked process: Device.command() = 6"]


def test_an_errno_in_the_process_arrives() -> None:
    with pytest.raises(KernelErrno, match="VFIO_DEVICE_RESET: EAGAIN"):
        device_in(FakeAgent(b'{"id": 1, "errno": 11, "call": "VFIO_DEVICE_RESET"}\n')).reset()


def test_the_end_of_the_process_ends_its_call() -> None:
    with pytest.raises(ProcessEnded, match="during reset"):
        device_in(FakeAgent(b"")).reset()

# SPDX-License-Identifier: GPL-2.0-only
"""A race's result: which outcomes are wrong, and which handles are left open."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.session.client import Agent
from harness.session.device import Device, DmaBuf
from harness.session.export import MAINLINE
from harness.session.races import Operation, export_operation, race
from harness.session.session import Session
from harness.session.wire import Ref

PAGE = (0x1000, 0x1000)


class FakeAgent:
    """Answers a race with the given results."""

    def __init__(self, *results: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.on_call = self.lines.append
        self._results = list(results)

    def set_name(self, ref: Ref, name: str) -> None:
        pass

    def call(self, *target: str, **args: Any) -> list[dict[str, Any]]:
        assert target == ("races", "run")
        return self._results


def fixtures(agent: FakeAgent) -> tuple[Session, Device]:
    device = Device(cast(Agent, agent), Ref(1), "0000:01:00.0", MAINLINE)
    return cast(Session, SimpleNamespace(agent=agent)), device


def test_an_outcome_that_no_operation_allows_is_wrong() -> None:
    resets = {"outcomes": [["Device.reset", "EAGAIN", 2], ["Device.reset", "EIO", 1], ["close", "ok", 3]], "held": []}
    agent = FakeAgent(resets, {"outcomes": [["Device.flr", "EAGAIN", 1]], "held": []})
    session, device = fixtures(agent)
    threads = [[Operation(device, "reset", may=("EAGAIN",))], [Operation(device, "flr")]]
    result = race(session, threads, "seed", 1)
    assert result.wrong == ["Device.reset gave EIO, 1 times", "Device.flr gave EAGAIN, 1 times"]
    assert agent.lines == ["the race: Device.flr EAGAIN 1, Device.reset EAGAIN 2 EIO 1, close ok 3"]


def test_what_is_left_open_is_a_handle_of_its_operation() -> None:
    session, device = fixtures(FakeAgent({"outcomes": [], "held": []}, {"outcomes": [], "held": [[1, Ref(7)]]}))
    export = export_operation(device, 2, [PAGE])
    result = race(session, [[Operation(device, "reset")], [Operation(device, "flr"), export]], "seed", 1)
    (buffer,) = result.held_of(DmaBuf)
    assert (buffer.ref, buffer.region, buffer.ranges) == (Ref(7), 2, (PAGE,))
    assert result.held_of(Device) == []


def test_an_operation_that_opens_something_unannounced_is_an_error() -> None:
    session, device = fixtures(FakeAgent({"outcomes": [], "held": [[0, Ref(7)]]}))
    with pytest.raises(ValueError, match=r"Device\.reset left something open"):
        race(session, [[Operation(device, "reset")]], "seed", 1)

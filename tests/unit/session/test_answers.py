# SPDX-License-Identifier: GPL-2.0-only
"""How long silence must last before it counts: it follows the answers of the same machine."""

from typing import Any, cast

import pytest

from harness.session.answers import FEWEST, LATEST, MARGIN, SHORTEST_S, UNKNOWN_S, AnswerTimes
from harness.session.client import Caller
from harness.session.device import Device
from harness.session.nvme import Nvme, QueuedCommand
from harness.session.wire import Ref

QUEUED = QueuedCommand(qid=0, cid=7, sqe=bytes(64), offset=0, doorbell=0x1000, tail=3)


def measured(*seconds: float, slowdown: float = 1.0) -> float:
    times = AnswerTimes(slowdown)
    for each in seconds:
        times.add(each)
    return times.silence_s


def test_before_the_first_answers_it_follows_the_slowdown() -> None:
    assert measured(slowdown=4.0) == 4 * UNKNOWN_S
    assert measured(*[0.01] * (FEWEST - 1), slowdown=4.0) == 4 * UNKNOWN_S


def test_then_it_is_a_multiple_of_the_longest_answer() -> None:
    assert measured(0.01, 0.02, 0.01, slowdown=4.0) == pytest.approx(MARGIN * 0.02)


def test_it_is_never_shorter_than_the_shortest() -> None:
    assert measured(*[0.0001] * FEWEST) == SHORTEST_S


def test_a_slow_answer_is_forgotten_after_enough_fast_ones() -> None:
    assert measured(1.0, *[0.01] * (LATEST - 1)) == pytest.approx(MARGIN)
    assert measured(1.0, *[0.01] * LATEST) == pytest.approx(MARGIN * 0.01)


class Guest:
    """An agent whose controller completes a command, or not."""

    slowdown = 2.0

    def __init__(self, completes: bool) -> None:
        self.answers = AnswerTimes(self.slowdown)
        self.completes = completes
        self.waits: list[float] = []

    def set_name(self, ref: Ref, name: str) -> None: ...

    def call(self, on: Ref, do: str, *, timeout: float, **args: Any) -> dict[str, int] | None:
        self.waits.append(args["seconds"])
        return {"status": 0, "result": 0} if self.completes else None


def nvme_of(guest: Guest) -> Nvme:
    return Nvme(cast(Caller, guest), Ref(1), cast(Device, None))


def test_an_answer_is_measured_and_silence_is_not() -> None:
    guest = Guest(completes=False)
    for _ in range(FEWEST):
        assert nvme_of(guest).completed(QUEUED, 3.0) is None
    assert guest.waits == [6.0] * FEWEST
    assert guest.answers.silence_s == 2 * UNKNOWN_S
    guest.completes = True
    for _ in range(FEWEST):
        assert nvme_of(guest).completed(QUEUED) is not None
    assert guest.answers.silence_s < 2 * UNKNOWN_S


def test_a_command_that_must_not_run_is_awaited_as_long() -> None:
    guest = Guest(completes=True)
    assert nvme_of(guest).wrongly_completed(QUEUED) is not None
    assert guest.waits == [2 * UNKNOWN_S]

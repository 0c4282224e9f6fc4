# SPDX-License-Identifier: GPL-2.0-only
"""The oracle: which observations count as arrived, as blocked and as nothing, with stand-ins for guest and watch."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, cast

import pytest

from harness.cases.must import ContractBroken
from harness.cases.probe import (
    ANSWER_S,
    ARRIVES,
    IS_REFUSED,
    OVERTAKEN,
    Ring,
    RingSeries,
    must_arrive,
    must_be_blocked,
    ring,
    ring_during,
    ring_once,
)
from harness.errors import AgentLost, ImporterRefused
from harness.session import Completion, Nvme, Pending, QueuedCommand, Window
from harness.witness import DmaFault, Doorbell, Watch

BELL = Doorbell("sq", 0, 3)
FAULT = DmaFault("0000:01:00.0", 0x1000, True, 5, "qemu")
STATUS = "IBV_WC_REM_ACCESS_ERR"
QUEUED = QueuedCommand(qid=0, cid=7, sqe=bytes(64), offset=0, doorbell=0x1000, tail=3)

ARRIVED = Ring([BELL], [], None)
FAULTED = Ring([], [FAULT], None)
REFUSED = Ring([], [], STATUS)
NOTHING = Ring([], [], None)
OVERTAKEN_STATUS = f"{OVERTAKEN}, and no IOMMU shows whether the data arrived"
SEEN_AND_OVERTAKEN = Ring([BELL], [], OVERTAKEN_STATUS)
UNSEEN_AND_OVERTAKEN = Ring([], [], OVERTAKEN_STATUS)

EVERY = [
    Ring(doorbells, faults, refused, completed)
    for doorbells, faults, refused, completed in product(
        ([], [BELL]), ([], [FAULT]), (None, STATUS), (None, False, True)
    )
]
"""Each combination of observations."""


def those(attribute: str) -> list[Ring]:
    return [each for each in EVERY if getattr(each, attribute)]


def test_arrived_is_a_doorbell_and_a_completion_without_a_refusal() -> None:
    assert those("arrived") == [ARRIVED, replace(ARRIVED, completed=True)]


def test_blocked_is_a_refusal_without_a_doorbell_or_a_completion() -> None:
    blocked = (FAULTED, REFUSED, Ring([], [FAULT], STATUS))
    assert len(those("blocked")) == 2 * len(blocked)
    for each, completed in product(blocked, (None, False)):
        assert replace(each, completed=completed) in those("blocked")


def test_nothing_is_neither_a_doorbell_nor_a_completion_nor_a_refusal() -> None:
    assert those("nothing") == [NOTHING, replace(NOTHING, completed=False)]


def test_a_ring_has_at_most_one_outcome() -> None:
    for each in EVERY:
        assert each.arrived + each.blocked + each.nothing <= 1


def test_a_refusal_without_a_text_is_one() -> None:
    assert Ring([], [], "").blocked


@pytest.mark.parametrize("observed", [each for each in EVERY if not each.arrived])
def test_must_arrive_refuses_all_else(observed: Ring) -> None:
    with pytest.raises(ContractBroken) as broken:
        must_arrive(observed, "a live mapping reaches the device")
    assert str(broken.value) == f"broken: a live mapping reaches the device; seen: {observed}; expected: {ARRIVES}"


@pytest.mark.parametrize("observed", [each for each in EVERY if not each.blocked])
def test_must_be_blocked_refuses_all_else(observed: Ring) -> None:
    with pytest.raises(ContractBroken) as broken:
        must_be_blocked(observed, "a revoked mapping does not")
    assert str(broken.value) == f"broken: a revoked mapping does not; seen: {observed}; expected: {IS_REFUSED}"


def test_what_holds_raises_nothing() -> None:
    for each in those("arrived"):
        must_arrive(each, "a live mapping reaches the device")
    for each in those("blocked"):
        must_be_blocked(each, "a revoked mapping does not")


def test_the_reason_names_each_observation() -> None:
    seen = str(Ring([BELL], [FAULT, FAULT], STATUS, completed=False))
    assert seen == (
        "the command did not complete; the host saw sq 0 doorbell = 3 and 2 DMA faults; "
        "the importer gave status IBV_WC_REM_ACCESS_ERR"
    )
    assert str(NOTHING) == ("the host saw no doorbell and no DMA fault; the importer gave no bad status")


@pytest.mark.parametrize(
    ("rings", "orderly"),
    [
        ([ARRIVED, ARRIVED], True),
        ([ARRIVED, FAULTED, REFUSED], True),
        ([REFUSED], True),
        ([FAULTED, ARRIVED], False),
        ([ARRIVED, REFUSED, ARRIVED, REFUSED], False),
        ([ARRIVED, NOTHING, REFUSED], False),
        ([ARRIVED, REFUSED, NOTHING], False),
        ([ARRIVED, Ring([BELL], [FAULT], None), REFUSED], False),
        ([ARRIVED, Ring([BELL], [], STATUS), REFUSED], False),
        ([ARRIVED, SEEN_AND_OVERTAKEN, REFUSED], True),
        ([UNSEEN_AND_OVERTAKEN, REFUSED], True),
        ([ARRIVED, SEEN_AND_OVERTAKEN, SEEN_AND_OVERTAKEN], False),
        ([SEEN_AND_OVERTAKEN, ARRIVED, REFUSED], False),
        ([REFUSED, SEEN_AND_OVERTAKEN], False),
    ],
)
def test_a_series_is_orderly_if_none_arrives_after_a_blocked_one_and_none_is_lost(
    rings: list[Ring], orderly: bool
) -> None:
    assert RingSeries(rings).orderly is orderly


def test_the_reason_of_a_series_has_its_end() -> None:
    assert str(RingSeries([FAULTED] + [ARRIVED] * 7 + [REFUSED])).split(" | ") == [str(ARRIVED)] * 7 + [str(REFUSED)]


class StandIn:
    """Stands in for controller, window and watch. ``on_ring`` is called for each ring through the window."""

    def __init__(self, on_ring: Callable[["StandIn"], None] = lambda it: None) -> None:
        self.on_ring = on_ring
        self.bells: list[Doorbell] = [BELL]
        self.faulted: list[DmaFault] = [FAULT]
        self.runs = False
        self.rung: list[QueuedCommand] = []
        self.waited: list[tuple[QueuedCommand, float]] = []

    # Nvme
    def queue_identify(self) -> QueuedCommand:
        return QUEUED

    def completed(self, queued: QueuedCommand, timeout: float) -> Completion | None:
        self.waited.append((queued, timeout))
        return Completion(0, 0) if self.runs else None

    def wrongly_completed(self, queued: QueuedCommand) -> Completion | None:
        return self.completed(queued, -1.0)

    # Window
    def ring(self, queued: QueuedCommand) -> None:
        self.rung.append(queued)
        self.on_ring(self)

    # Watch
    def mark(self) -> tuple[int, int]:
        return len(self.bells), len(self.faulted)

    def doorbells(self, mark: tuple[int, int]) -> list[Doorbell]:
        return self.bells[mark[0] :]

    def faults(self, mark: tuple[int, int]) -> list[DmaFault]:
        return self.faulted[mark[1] :]


def live(it: StandIn) -> None:
    it.bells.append(BELL)
    it.runs = True


def faulting(it: StandIn) -> None:
    it.faulted.append(FAULT)


def refusing(it: StandIn) -> None:
    raise ImporterRefused(STATUS)


def ring_on(it: StandIn, *, window: bool = True, **more: Any) -> Ring:
    through = cast(Window, it) if window else None
    return ring(cast(Nvme, it), through, cast(Watch, it), **more)


def test_a_ring_that_reaches_the_device_arrives() -> None:
    it = StandIn(live)
    assert ring_on(it) == replace(ARRIVED, completed=True)
    assert it.waited == [(QUEUED, ANSWER_S)]


def test_a_doorbell_whose_command_does_not_run_has_not_arrived() -> None:
    result = ring_on(StandIn(lambda it: it.bells.append(BELL)))
    assert result == replace(ARRIVED, completed=False)
    assert not result.arrived


def test_a_ring_into_an_iommu_fault_is_blocked() -> None:
    it = StandIn(faulting)
    assert ring_on(it) == replace(FAULTED, completed=False)
    assert it.waited == [(QUEUED, -1.0)]  # as long as its answers take


def test_a_ring_that_the_importer_refuses_is_blocked() -> None:
    assert ring_on(StandIn(refusing)) == replace(REFUSED, completed=False)


def test_a_ring_that_disappears_is_neither_arrived_nor_blocked() -> None:
    assert ring_on(StandIn()) == replace(NOTHING, completed=False)


def test_a_command_that_runs_without_a_doorbell_is_not_blocked() -> None:
    def runs_unseen(it: StandIn) -> None:
        faulting(it)
        it.runs = True

    assert not ring_on(StandIn(runs_unseen)).blocked


def test_without_a_window_nothing_is_rung() -> None:
    it = StandIn(live)
    assert ring_on(it, window=False).nothing
    assert not it.rung


def test_other_queues_doorbells_do_not_count() -> None:
    def others(it: StandIn) -> None:
        it.bells += [Doorbell("cq", 0, 3), Doorbell("sq", 1, 3)]

    assert ring_on(StandIn(others)).doorbells == []


def test_a_given_command_is_rung_and_awaited() -> None:
    it, queued = StandIn(faulting), replace(QUEUED, cid=8)
    ring_on(it, queued=queued, silence=0.5)
    assert it.rung == [queued]
    assert it.waited == [(queued, 0.5)]


def test_ring_once_does_not_ask_the_device() -> None:
    it = StandIn(live)
    assert ring_once(QUEUED, cast(Window, it), cast(Watch, it)) == ARRIVED
    assert not it.waited


def test_a_lost_agent_is_no_refusal() -> None:
    def lost(it: StandIn) -> None:
        raise AgentLost("the connection was cut")

    with pytest.raises(AgentLost):
        ring_on(StandIn(lost))


class Call:
    """Stands in for Pending: returns during the ``during``-th ring, with ``error`` if there is one."""

    def __init__(self, it: StandIn, during: int, error: Exception | None = None) -> None:
        self.it = it
        self.during = during
        self.error = error

    def done(self) -> bool:
        return len(self.it.rung) >= self.during

    def result(self) -> None:
        if self.error:
            raise self.error


def series_of(it: StandIn, call: Call) -> RingSeries:
    return ring_during(cast("Pending[None]", call), QUEUED, cast(Window, it), cast(Watch, it))


def test_a_series_ends_with_a_ring_begun_after_the_call_has_returned() -> None:
    def revoked_by_the_third(it: StandIn) -> None:
        (live if len(it.rung) < 3 else faulting)(it)

    it = StandIn(revoked_by_the_third)
    series = series_of(it, Call(it, during=2))
    assert series.rings == [ARRIVED, ARRIVED, FAULTED]
    assert series.orderly


def test_a_series_raises_what_the_call_raised() -> None:
    it = StandIn(live)
    with pytest.raises(AgentLost):
        series_of(it, Call(it, during=0, error=AgentLost("the connection was cut")))

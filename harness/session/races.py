# SPDX-License-Identifier: GPL-2.0-only
"""Races: several threads in the guest make calls at the same time. A seed decides which calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.session.attachment import Attachment, Umem
from harness.session.client import CALL_SECONDS
from harness.session.device import OPEN_FLAGS, Device, DmaBuf
from harness.session.export import Range
from harness.session.handle import Handle
from harness.session.importers import IB_ACCESS_LOCAL_WRITE, Importer, Window
from harness.session.session import Session
from harness.session.wire import Ref

H = TypeVar("H", bound=Handle)

STEP_SECONDS = 0.5
"""Average time limit for one step of a race, for a slowdown of 1."""


@dataclass(frozen=True)
class Operation:
    """A call that a thread of a race may make."""

    on: Handle | str
    """The object of the call, or a service of the guest, which only ``interleave`` takes."""
    do: str
    """The method's name in the guest (harness/guest)."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """The method's arguments in the guest."""
    may: tuple[str, ...] = ()
    """Errnos that are allowed, whether the call alone gives them or another thread causes them."""
    weight: int = 1
    """How often the thread makes this call, relative to its other operations."""
    opens: Callable[[Ref], Handle] | None = None
    """Makes a handle of the call's result; None if the result is not an object."""

    @property
    def name(self) -> str:
        """Class and method, for evidence."""
        return f"{self.on if isinstance(self.on, str) else type(self.on).__name__}.{self.do}"


Operations = Sequence[Operation]
"""The calls that one thread may make."""


def export_operation(device: Device, region: int, ranges: Sequence[Range], may: tuple[str, ...] = ()) -> Operation:
    """Export ``ranges`` of a BAR, like ``Device.export``; opens a DmaBuf."""
    return Operation(
        device,
        "export",
        {"feature": device.uapi.feature, "payload": device.uapi.payload(region, ranges, OPEN_FLAGS)},
        may,
        opens=lambda ref: DmaBuf(device.agent, ref, region, ranges),
    )


def attach_operation(importer: Importer, buffer: DmaBuf, may: tuple[str, ...] = ()) -> Operation:
    """Import the whole of ``buffer``, like ``Importer.attach``; opens a Window."""
    length = buffer.size()
    return Operation(
        importer,
        "attach",
        {"dmabuf": buffer, "start": 0, "length": length},
        may,
        opens=lambda ref: Window(importer, ref, buffer, 0, length),
    )


def attachment_operation(session: Session, buffer: DmaBuf, device_id: str) -> Operation:
    """Attach a device to ``buffer`` as a dynamic importer, like ``Session.attach``; opens an Attachment."""
    return Operation(
        "importer",
        "Attachment",
        {"bdf": session.bdf(device_id), "dmabuf": buffer},
        opens=lambda ref: Attachment(session.agent, ref),
    )


def umem_operation(session: Session, buffer: DmaBuf, device_id: str) -> Operation:
    """Let the RDMA core import the whole of ``buffer``, like ``Session.umem``; opens a Umem."""
    return Operation(
        "importer",
        "Umem",
        {
            "bdf": session.bdf(device_id),
            "file": buffer,
            "offset": 0,
            "length": buffer.size(),
            "kind": "revocable",
            "access": IB_ACCESS_LOCAL_WRITE,
        },
        opens=lambda ref: Umem(session.agent, ref),
    )


@dataclass(frozen=True)
class RaceResult:
    """How a race ended."""

    outcomes: Mapping[str, Mapping[str, int]]
    """By the operation's name, how many calls ended in "ok" or in which errno."""
    wrong: list[str]
    """The outcomes that no operation allows."""
    held: list[Handle]
    """The handles that the threads left open, in the order of the threads."""

    def held_of(self, kind: type[H]) -> list[H]:
        """Return the open handles of one kind."""
        return [handle for handle in self.held if isinstance(handle, kind)]

    def __str__(self) -> str:
        """Each operation's outcomes with their counts."""
        return ", ".join(
            f"{name} " + " ".join(f"{outcome} {count}" for outcome, count in sorted(of_call.items()))
            for name, of_call in sorted(self.outcomes.items())
        )


def race(session: Session, threads: Sequence[Operations], seed: str, steps: int) -> RaceResult:
    """Run ``threads`` for ``steps`` steps (harness/guest/races.py). The same seed makes the same calls."""
    raw = [
        [{"name": it.name, "on": it.on, "do": it.do, "args": it.args, "weight": it.weight} for it in operations]
        for operations in threads
    ]
    timeout = CALL_SECONDS + steps * STEP_SECONDS
    results = session.agent.call("races", "run", threads=raw, seed=seed, steps=steps, timeout=timeout)
    outcomes: dict[str, dict[str, int]] = {}
    for result in results:
        for name, outcome, count in result["outcomes"]:
            of_call = outcomes.setdefault(name, {})
            of_call[outcome] = of_call.get(outcome, 0) + count
    held = [
        _handle(operations[number], ref)
        for operations, result in zip(threads, results, strict=True)
        for number, ref in result["held"]
    ]
    ended = RaceResult(outcomes, _wrong(threads, outcomes), held)
    if session.agent.on_call:
        session.agent.on_call(f"the race: {ended}")
    return ended


def _handle(operation: Operation, ref: Ref) -> Handle:
    if operation.opens is None:
        raise ValueError(f"{operation.name} left something open; its Operation needs ``opens``")
    return operation.opens(ref)


def _wrong(threads: Sequence[Operations], outcomes: Mapping[str, Mapping[str, int]]) -> list[str]:
    may: dict[str, set[str]] = {"close": set()}
    for operation in (operation for operations in threads for operation in operations):
        may.setdefault(operation.name, set()).update(operation.may)
    return [
        f"{name} gave {outcome}, {count} times"
        for name, of_call in outcomes.items()
        for outcome, count in of_call.items()
        if outcome != "ok" and outcome not in may[name]
    ]

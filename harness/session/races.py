# SPDX-License-Identifier: GPL-2.0-only
"""Races: calls that several threads of the guest make at the same time, chosen by dice from one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.session.client import CALL_SECONDS
from harness.session.handle import Handle
from harness.session.session import Session
from harness.session.wire import Ref

STEP_SECONDS = 0.5
"""What a step of a race may take on average, for a slowdown of 1."""


@dataclass(frozen=True)
class Move:
    """A call that a lane may make: the agent's ``do`` of a handle. ``may``: the errnos that it may end with, by
    themselves or because of what the other lanes do. ``weight``: how often, compared with the lane's other moves."""

    on: Handle
    do: str
    args: Mapping[str, Any] = field(default_factory=dict)
    may: tuple[str, ...] = ()
    weight: int = 1

    @property
    def name(self) -> str:
        """Who does what, for evidence."""
        return f"{type(self.on).__name__}.{self.do}"


Lane = Sequence[Move]


@dataclass(frozen=True)
class Raced:
    """``outcomes``: how often which call ended how; ``wrong``: those that must not. ``held``: what each lane opened and
    has left open."""

    outcomes: Mapping[str, Mapping[str, int]]
    wrong: list[str]
    held: list[list[Ref]]

    def __str__(self) -> str:
        """How often which call ended how."""
        return ", ".join(
            f"{name} " + " ".join(f"{outcome} {count}" for outcome, count in sorted(of_call.items()))
            for name, of_call in sorted(self.outcomes.items())
        )


def race(session: Session, lanes: Sequence[Lane], seed: str, steps: int) -> Raced:
    """Let ``lanes`` race for ``steps`` steps (harness/guest/races.py); the same seed makes the same calls."""
    raw = [
        [{"name": it.name, "on": it.on, "do": it.do, "args": it.args, "weight": it.weight} for it in lane]
        for lane in lanes
    ]
    timeout = CALL_SECONDS + steps * STEP_SECONDS
    results = session.agent.call("races", "run", lanes=raw, seed=seed, steps=steps, timeout=timeout)
    may: dict[str, set[str]] = {"close": set()}
    for move in (move for lane in lanes for move in lane):
        may.setdefault(move.name, set()).update(move.may)
    outcomes: dict[str, dict[str, int]] = {}
    for result in results:
        for name, outcome, count in result["outcomes"]:
            of_call = outcomes.setdefault(name, {})
            of_call[outcome] = of_call.get(outcome, 0) + count
    wrong = [
        f"{name} gave {outcome}, {count} times"
        for name, of_call in outcomes.items()
        for outcome, count in of_call.items()
        if outcome != "ok" and outcome not in may[name]
    ]
    raced = Raced(outcomes, wrong, [result["held"] for result in results])
    if session.agent.on_call:
        session.agent.on_call(f"the race: {raced}")
    return raced

# SPDX-License-Identifier: GPL-2.0-only
"""The guest side of a race: its seed, its outcomes, and the resources that it leaves open."""

import errno
import threading
from typing import Any

import pytest

from harness.guest import races
from harness.guest.resource import Resource, close_all


class Target:
    """An object whose calls a race makes."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def do(self, what: str) -> None:
        self.log.append((threading.current_thread().name, what))

    def refuse(self) -> None:
        raise OSError(errno.EBUSY, "busy", "refuse")

    def open(self) -> Resource:
        return Resource()

    def fail(self) -> None:
        raise RuntimeError("failed")


def operation(on: Target, do: str, **args: Any) -> dict[str, Any]:
    return {"name": f"target.{do}", "on": on, "do": do, "args": args, "weight": 1}


def calls(seed: str) -> list[list[str]]:
    target = Target()
    races.run([[operation(target, "do", what=what) for what in "abc"]] * 2, seed, 20)
    threads = sorted({thread for thread, _ in target.log}, key=lambda name: int(name.partition("-")[2].split()[0]))
    return [[what for thread, what in target.log if thread == each] for each in threads]


def test_a_seed_makes_the_same_calls() -> None:
    first = calls("1")
    assert len(first) == 2
    assert first[0] != first[1]
    assert calls("1") == first
    assert calls("2") != first


def test_outcomes_are_counted_and_open_resources_returned() -> None:
    target = Target()
    refused, opened = races.run([[operation(target, "refuse")], [operation(target, "open")]], "1", 10)
    ((name, outcome, count),) = refused["outcomes"]
    assert (name, outcome) == ("target.refuse", "EBUSY")
    assert 10 <= count <= 10 * races.BURST
    counts = {name: count for name, outcome, count in opened["outcomes"]}
    assert len(opened["held"]) == counts["target.open"] - counts.get("close", 0) <= races.MAX_HELD
    assert all(number == 0 and isinstance(held, Resource) for number, held in opened["held"])
    assert not close_all()


def test_a_thread_that_fails_ends_the_race() -> None:
    target = Target()
    with pytest.raises(RuntimeError, match="failed"):
        races.run([[operation(target, "fail")], [operation(target, "do", what="a")]], "1", 1000)
    assert len(target.log) < 1000

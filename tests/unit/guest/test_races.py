# SPDX-License-Identifier: GPL-2.0-only
import errno
import threading
from typing import Any

import pytest

from harness.guest import races
from harness.guest.resource import Resource, close_all


class Desk:
    """An object whose calls a race makes."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def do(self, what: str) -> None:
        self.log.append((threading.current_thread().name, what))

    def refuse(self) -> None:
        raise OSError(errno.EBUSY, "busy", "refuse")

    def open(self) -> Resource:
        return Resource()

    def fall(self) -> None:
        raise RuntimeError("fell")


def operation(on: Desk, do: str, **args: Any) -> dict[str, Any]:
    return {"name": f"desk.{do}", "on": on, "do": do, "args": args, "weight": 1}


def calls(seed: str) -> list[list[str]]:
    desk = Desk()
    races.run([[operation(desk, "do", what=what) for what in "abc"]] * 2, seed, 20)
    threads = sorted({thread for thread, _ in desk.log}, key=lambda name: int(name.partition("-")[2].split()[0]))
    return [[what for thread, what in desk.log if thread == each] for each in threads]


def test_a_seed_makes_the_same_calls() -> None:
    first = calls("1")
    assert len(first) == 2
    assert first[0] != first[1]
    assert calls("1") == first
    assert calls("2") != first


def test_outcomes_are_counted_and_what_is_open_is_handed_out() -> None:
    desk = Desk()
    refused, opened = races.run([[operation(desk, "refuse")], [operation(desk, "open")]], "1", 10)
    ((name, outcome, count),) = refused["outcomes"]
    assert (name, outcome) == ("desk.refuse", "EBUSY")
    assert 10 <= count <= 10 * races.BURST
    counts = {name: count for name, outcome, count in opened["outcomes"]}
    assert len(opened["held"]) == counts["desk.open"] - counts.get("close", 0) <= races.MAX_HELD
    assert all(number == 0 and isinstance(held, Resource) for number, held in opened["held"])
    assert not close_all()


def test_a_thread_that_fails_ends_the_race() -> None:
    desk = Desk()
    with pytest.raises(RuntimeError, match="fell"):
        races.run([[operation(desk, "fall")], [operation(desk, "do", what="a")]], "1", 1000)
    assert len(desk.log) < 1000

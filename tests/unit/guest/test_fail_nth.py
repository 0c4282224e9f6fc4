# SPDX-License-Identifier: GPL-2.0-only
"""A sweep repeats a refused call with the next allocation failing, and reports what the call left behind."""

import errno
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from harness.guest import fail_nth

CALL = "IOMMU_IOAS_MAP_FILE"


class Kernel:
    """A call that makes ``allocations``, each with what its failure does: an errno, or 0 for nothing."""

    def __init__(self, *allocations: int) -> None:
        self.allocations = allocations
        self.armed = 0
        self.calls = 0
        self.counts: dict[str, str] = {"dma-bufs": "0"}

    def call(self) -> str:
        self.calls += 1
        number, self.armed = self.armed, 0
        if not 0 < number <= len(self.allocations):
            self.armed = number
        elif failure := self.allocations[number - 1]:
            raise OSError(failure, os.strerror(failure))
        return "granted"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Kernel]]:
    made: list[Kernel] = []

    class Armed:
        def __init__(self, number: int) -> None:
            self.number = number
            self.fired = False

        def __enter__(self) -> "Armed":
            made[-1].armed = self.number
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self.fired = made[-1].armed == 0

    def make(*allocations: int) -> Kernel:
        made.append(Kernel(*allocations))
        return made[-1]

    monkeypatch.setattr(fail_nth, "Armed", Armed)
    monkeypatch.setattr(fail_nth, "_counts", lambda: dict(made[-1].counts))
    monkeypatch.setattr(fail_nth, "_let_all_fail", lambda: None)
    yield make
    fail_nth._sweeps.clear()


def passes(kernel: Kernel, most: int = 10) -> list[dict[str, Any]]:
    """Run the call in passes until no failure is left to try."""
    found: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    while len(found) < most and (not found or any(first.values())):
        fail_nth.begin({CALL: ["ENOMEM"]}, first)
        assert fail_nth.acting(CALL, kernel.call) == "granted"
        found.append(fail_nth.end())
        first = {**first, **found[-1]["next"]}
    return found


def test_a_refused_call_is_repeated_and_a_survivor_ends_the_pass(kernel: Callable[..., Kernel]) -> None:
    first, second, third = passes(kernel(errno.ENOMEM, 0, errno.ENOMEM, 0))
    assert (first["refused"], first["survived"]) == ({f"{CALL} 1": 1}, [f"{CALL} 1, allocation 2"])
    assert (second["refused"], second["survived"]) == ({f"{CALL} 1": 1}, [f"{CALL} 1, allocation 4"])
    assert (third["refused"], third["survived"], third["next"]) == ({}, [], {f"{CALL} 1": 0})


def test_another_errno_goes_to_the_case(kernel: Callable[..., Kernel]) -> None:
    starved = kernel(errno.ENOMEM, errno.EFAULT)
    fail_nth.begin({CALL: ["ENOMEM"]}, {})
    with pytest.raises(OSError, match="Bad address"):
        fail_nth.acting(CALL, starved.call)
    assert fail_nth.end()["survived"] == [f"{CALL} 1, allocation 2"]


def test_what_a_refused_call_leaves_is_reported(kernel: Callable[..., Kernel]) -> None:
    starved = kernel(errno.ENOMEM, errno.ENOMEM)

    def leak() -> str:
        starved.counts["dma-bufs"] = str(starved.calls)
        return starved.call()

    fail_nth.begin({CALL: ["ENOMEM"]}, {})
    fail_nth.acting(CALL, leak)
    assert fail_nth.end()["left"] == [f"{CALL} 1, allocation 2: dma-bufs was 0, is 1"]


def test_calls_that_are_not_listed_or_inside_a_sweep_do_not_fail(kernel: Callable[..., Kernel]) -> None:
    starved = kernel(errno.ENOMEM)
    fail_nth.begin({CALL: ["ENOMEM"]}, {})
    assert fail_nth.acting("IOMMU_DESTROY", starved.call) == "granted"
    fail_nth.acting(CALL, lambda: fail_nth.acting(CALL, lambda: "inner"))
    assert fail_nth.end()["next"] == {f"{CALL} 1": 0}

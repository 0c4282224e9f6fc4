# SPDX-License-Identifier: GPL-2.0-only
"""The faulty model: reproducible from its seed, and never a reason for its process to end."""

from collections.abc import Coroutine
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_machine
from harness.device.models import find
from harness.device.models import random as model
from harness.device.models.random import ALSO, RATES, RIGHT_AT_FIRST, FaultyNvme, faulty_nvme
from harness.device.spec import Spec


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of a model that answers late."""
    seconds: list[float] = []
    monkeypatch.setattr(model, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


class FakePort:
    """Collects what the model starts, and refuses nothing."""

    def __init__(self) -> None:
        self.started: list[Coroutine[Any, Any, None]] = []
        self.faults = 0

    async def dma_read(self, address: int, length: int) -> bytes:
        return bytes(min(length, 1 << 16))

    async def dma_write(self, address: int, data: bytes) -> None:
        pass

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.started.append(work)

    def interrupt(self, vector: int) -> None:
        pass

    def log(self, event: str, **fields: Any) -> None:
        self.faults += event == "wrong"


def answers(seed: int, count: int = 3000) -> tuple[list[bytes], int]:
    """Drive a model at random. Returns what it read as, and how often it went wrong."""
    port, rng, found = FakePort(), Random(99), []
    device = faulty_nvme(seed)(port)
    for _ in range(count):
        bar = rng.choice((0, 2))
        offset = rng.randrange(0, device.BARS[bar], 8)
        if rng.random() < 0.5:
            device.write(bar, offset, rng.randbytes(rng.choice((4, 8))))
        else:
            found.append(device.read(bar, offset, 4))
    for work in port.started:
        work.close()
    return found, port.faults


@pytest.mark.parametrize("seed", range(6))
def test_a_seed_gives_the_same_wrong_answers(seed: int) -> None:
    first, faults = answers(seed)
    assert answers(seed) == (first, faults)
    assert faults > 0
    assert all(len(each) == 4 for each in first)


def test_seeds_differ_in_how_often_answers_are_wrong_and_from_when() -> None:
    found = [faulty_nvme(seed)(FakePort()) for seed in range(100)]
    assert {(each._rate, each._right_left) for each in found} == {
        (rate, first) for rate in RATES for first in RIGHT_AT_FIRST
    }
    assert {each._also for each in found} == set(ALSO)


@pytest.mark.parametrize("seed", range(1, 7))
def test_some_also_answer_late_or_wrongly_in_config_space(seed: int, slept: list[float]) -> None:
    answers(seed)
    device, right = faulty_nvme(seed)(FakePort()), b"\x36\x1b\xf1\x11"
    device._right_left = 0
    assert bool(slept) is (device._also == "late")
    assert any(device.config(0, right) != right for _ in range(100)) is (device._also == "config")


def test_a_machine_names_it_with_its_seed() -> None:
    found = find("random-7")
    assert issubclass(found, FaultyNvme)
    assert found.SEED == 7
    assert Spec("nvme0", "random-7", "s", "l").config_space().size == 4096
    with pytest.raises(LookupError, match="no model 'random-x'; known are nvme, edu, memory, random-SEED"):
        find("random-x")
    assert load_machine("vfio-user").device("nvme0").kind == "nvme"

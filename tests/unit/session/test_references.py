# SPDX-License-Identifier: GPL-2.0-only
"""The host's comparison of the guest's counters."""

from collections import Counter
from typing import Any, cast

import pytest

from harness.session.client import Agent
from harness.session.references import References, differences


class Guest:
    """An agent whose counters the test sets."""

    slowdown = 1.0

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter({"dma-bufs": 0, "users of module iommufd": 0})
        self.calls = 0

    def call(self, on: str, do: str, **args: Any) -> dict[str, int]:
        self.calls += 1
        if do == "settle":
            assert all(args["expected"].values()), "zeros are left out"
        return dict(self.counters)


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def references(guest: Guest) -> References:
    watched = References(cast(Agent, guest), test_importer=True)
    watched.start()
    return watched


def test_what_a_case_leaves_is_named_with_both_values(guest: Guest, references: References) -> None:
    assert references.left() == []
    guest.counters.update({"dma-bufs": 1, "users of module iommufd": 2})
    assert references.left() == ["dma-bufs were 0, now 1", "users of module iommufd were 0, now 2"]


def test_a_count_that_falls_is_a_difference() -> None:
    assert differences(Counter(a=1), Counter(b=-1)) == ["a were 1, now 0", "b were 0, now -1"]


def test_a_ready_importer_is_expected_until_its_close(guest: Guest, references: References) -> None:
    guest.counters["dma-bufs"] = 1  # the case has it open already
    with references.kept() as held:
        guest.counters["users of module iommufd"] = 1
    guest.counters["dma-bufs"] = 0
    assert held["users of module iommufd"] == 1
    assert references.left() == []
    references.release(held)
    assert references.left() == ["users of module iommufd were 0, now 1"]
    guest.counters["users of module iommufd"] = 0
    assert references.left() == []


def test_an_importer_that_cannot_be_made_is_not_expected(guest: Guest, references: References) -> None:
    def make() -> None:
        with references.kept():
            guest.counters["users of module iommufd"] = 1
            raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        make()
    assert references.left() == ["users of module iommufd were 0, now 1"]


def test_a_session_without_cases_reads_no_counters(guest: Guest) -> None:
    idle = References(cast(Agent, guest), test_importer=True)
    with idle.kept() as held:
        pass
    idle.release(held)
    assert guest.calls == 0

# SPDX-License-Identifier: GPL-2.0-only
"""The recording of a case: its calls, what it states, and the objects of earlier cases that it uses."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cases.must import ContractBroken, must, must_fail
from harness.errors import ImporterRefused, KernelErrno
from harness.session import recording
from harness.session.recording import Recording, Step
from harness.session.wire import Ref


@pytest.fixture
def made() -> dict[int, Step]:
    return {}


@pytest.fixture
def steps(made: dict[int, Step]) -> Iterator[Recording]:
    """Record what the test does."""
    kept = Recording(made)
    recording.record(kept)
    yield kept
    recording.record(None)


def call(made: dict[int, Step], on: str | Ref, do: str, result: object = None, /, **args: Any) -> None:
    """Make a call that returns ``result``, or raises it."""
    ended = recording.call("call", on, do, args, made=made)
    if isinstance(result, Exception):
        ended(None, result)
    else:
        ended(result, None)


def read(steps: Recording) -> list[Step]:
    found: list[Step] = json.loads(steps.encode())
    return found


def test_a_call_has_its_arguments_and_its_result(steps: Recording, made: dict[int, Step]) -> None:
    call(made, "vfio", "open_cdev", Ref(3), bdf="0000:01:00.0", space=Ref(2))
    call(made, Ref(3), "export", Ref(4), payload=b"\x00\xff")
    assert read(steps) == [
        {
            "call": ["vfio", "open_cdev"],
            "args": {"bdf": "0000:01:00.0", "space": {"$object": 2}},
            "ok": {"$object": 3},
        },
        {"call": [{"$object": 3}, "export"], "args": {"payload": {"$bytes": "AP8="}}, "ok": {"$object": 4}},
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KernelErrno("IOMMU_IOAS_MAP_FILE", 19), {"errno": "ENODEV", "of": "IOMMU_IOAS_MAP_FILE"}),
        (ImporterRefused("IBV_WC_REM_ACCESS_ERR"), {"refused": "IBV_WC_REM_ACCESS_ERR"}),
        (RuntimeError("the guest is gone"), {"lost": "RuntimeError"}),
    ],
)
def test_a_call_has_its_error(steps: Recording, made: dict[int, Step], error: Exception, outcome: Step) -> None:
    call(made, "pci", "reset", error)
    assert read(steps) == [{"call": ["pci", "reset"], "args": {}, **outcome}]


def test_objects_of_earlier_cases_come_first(steps: Recording, made: dict[int, Step]) -> None:
    """An importer stays ready from case to case. Its case made it, with what it is made of, and this one uses it."""
    recording.record(None)
    call(made, "iommufd", "Iommufd", Ref(1))
    call(made, "iommufd", "Iommufd", Ref(7))
    call(made, Ref(1), "ioas", Ref(2))
    call(made, "nvme", "NvmeEngine", Ref(3), device=Ref(2))
    recording.record(steps)
    call(made, Ref(3), "attach", Ref(9))
    found = read(steps)
    assert [step["call"][1] for step in found] == ["Iommufd", "ioas", "NvmeEngine", "attach"]
    assert [step.get("earlier") for step in found] == [True, True, True, None]


def test_what_is_only_kept_is_left_out(steps: Recording, made: dict[int, Step]) -> None:
    """reset_all names each importer that stays ready, used or not."""
    recording.record(None)
    call(made, "iommufd", "Iommufd", Ref(1))
    recording.record(steps)
    call(made, "rpc", "reset_all", [], keep=[Ref(1)])
    assert [step["call"] for step in read(steps)] == [["rpc", "reset_all"]]


def test_statements_are_recorded(steps: Recording) -> None:
    must(True, "this holds", 7)
    with pytest.raises(ContractBroken):
        must(False, "that holds", "something else", rule="blocked")
    assert read(steps) == [
        {"check": "this holds", "holds": True, "seen": "7", "rule": ""},
        {"check": "that holds", "holds": False, "seen": "something else", "rule": "blocked"},
    ]


def test_an_expected_errno_encloses_its_calls(steps: Recording, made: dict[int, Step]) -> None:
    refusal = KernelErrno("IOMMU_IOAS_MAP_FILE", 19)
    with must_fail("ENODEV", "a revoked buffer cannot be mapped"):
        call(made, "pci", "reset", refusal)
        raise refusal
    kinds = [next(iter(step)) for step in read(steps)]
    assert kinds == ["expect", "call", "expected", "check"]


def test_nothing_is_recorded_without_a_recording() -> None:
    must(True, "this holds")
    with recording.ring():
        pass


def test_a_recording_ends_before_it_fills_the_memory(
    steps: Recording, made: dict[int, Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST_STEPS", 2)
    for _ in range(5):
        call(made, "pci", "reset")
    assert len(read(steps)) == 2


def test_evidence_can_be_left_out(steps: Recording, made: dict[int, Step]) -> None:
    call(made, "rpc", "before")
    with recording.left_out():
        call(made, "rpc", "look")
        recording.check("looks well", True)
    call(made, "rpc", "after")
    assert [step["call"][1] for step in read(steps)] == ["before", "after"]

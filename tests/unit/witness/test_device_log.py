# SPDX-License-Identifier: GPL-2.0-only
"""Read the logs of vfio-user devices: complete lines, from a mark on, and nothing else."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.witness import Doorbell
from harness.witness.device_log import DeviceDma, DeviceLogs

Write = Callable[..., None]


@pytest.fixture
def logs(tmp_path: Path) -> DeviceLogs:
    return DeviceLogs({"a": tmp_path / "a", "b": tmp_path / "b"})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def append(device: str, t: float, event: str, **fields: object) -> None:
        with (tmp_path / device).open("a") as file:
            file.write(json.dumps({"t": t, "event": event, **fields}) + "\n")

    return append


def test_a_device_that_has_not_started_saw_nothing(logs: DeviceLogs) -> None:
    assert logs.since(0.0) == []


def test_events_since_a_mark_come_by_time(logs: DeviceLogs, write: Write) -> None:
    write("a", 1.0, "reset", how="bus")
    write("a", 3.0, "reset", how="pcie-flr")
    write("b", 2.0, "connected")
    assert [(each.device, each.event) for each in logs.since(2.0)] == [("b", "connected"), ("a", "reset")]
    write("a", 4.0, "unanswered", how="bus")
    assert [each.event for each in logs.since(3.5, "a")] == ["unanswered"]
    assert [str(each) for each in logs.since(3.0, "a")] == ["a: reset how pcie-flr", "a: unanswered how bus"]


def test_a_line_that_is_being_written_is_read_once_it_is_whole(logs: DeviceLogs, write: Write, tmp_path: Path) -> None:
    write("a", 1.0, "connected")
    with (tmp_path / "a").open("a") as file:
        file.write('{"t": 2.0, "eve')
    assert len(logs.since(0.0)) == 1
    with (tmp_path / "a").open("a") as file:
        file.write('nt": "reset", "how": "bus"}\n')
    assert [each.event for each in logs.since(0.0)] == ["connected", "reset"]


def test_doorbells_have_unix_times(logs: DeviceLogs, write: Write) -> None:
    write("a", time.monotonic(), "doorbell", queue="sq", qid=0, value=7, accepted=True)
    (bell,) = logs.doorbells(0.0)
    assert bell == Doorbell("sq", 0, 7)
    assert bell.time is not None
    assert abs(bell.time - time.time()) < 5


def test_dma_has_its_refusal_and_the_value_that_it_wrote(logs: DeviceLogs, write: Write) -> None:
    write("a", 1.5, "dma-write", address=0x1000, length=4, began=1.0, data="01020000", errno=19)
    write("a", 2.5, "dma-read", address=0x2000, length=64, began=2.0, errno=0)
    write("a", 2.6, "read", region=0, offset=0, data="00")
    assert logs.dma(0.0, "a") == [
        DeviceDma(1.0, 1.5, 0x1000, 4, True, 0x201, 19),
        DeviceDma(2.0, 2.5, 0x2000, 64, False, None, 0),
    ]
    assert [each.refused for each in logs.dma(0.0, "a")] == [True, False]

# SPDX-License-Identifier: GPL-2.0-only
"""Questions about many nights take no longer than about few. tests/robustness measures 1,000 nights."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from many_nights import LIMIT_S, Size, commands, cpu_seconds, fill

from harness.nightly.history import History, open_history
from harness.progress import silent


def questions(history: History, size: Size) -> dict[str, Callable[[], object]]:
    cell, case = size.plan[1].id, size.names[7]
    return {
        "verdicts": lambda: history.verdicts([case]),
        "flakes": history.flakes,
        "flakes of all nights": lambda: history.flakes(nights=size.nights),
        "durations": lambda: history.durations(cell),
        "last good night": lambda: history.last_good_night(cell, case),
    }


def instructions(history: History, question: Callable[[], object]) -> int:
    """Return how many instructions of its virtual machine SQLite runs for a question."""
    count = [0]
    history._database._connection.set_progress_handler(lambda: count.append(0), 1)
    question()
    return len(count)


@pytest.mark.parametrize("one_kernel", [True, False])
def test_the_work_does_not_grow_with_the_nights(tmp_path: Path, one_kernel: bool) -> None:
    """Four times as many nights: SQLite may do twice as much, for the months that flakes adds up."""
    found: list[dict[str, int]] = []
    for nights in (70, 280):
        size = Size(nights=nights, cells=2, cases=25)
        fill(tmp_path / str(nights), size, one_kernel=one_kernel)
        with open_history(tmp_path / str(nights), silent) as history:
            asked = questions(history, size).items()
            found.append({name: instructions(history, question) for name, question in asked})
    few, many = found
    print(found)
    assert {name: count for name, count in many.items() if count > 2 * few[name]} == {}, found


def test_each_question_is_answered_in_time(tmp_path: Path) -> None:
    """Most of the time is the start of Python."""
    size = Size(nights=50, cells=6, cases=60)
    last = fill(tmp_path / "nightly", size, one_kernel=True)
    env = {**os.environ, "VFIO_HARNESS_RESULTS": str(tmp_path)}
    taken = {name: cpu_seconds(command, env) for name, command in commands(size, last).items()}
    assert max(taken.values()) < LIMIT_S, taken

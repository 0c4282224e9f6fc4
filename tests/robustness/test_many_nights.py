# SPDX-License-Identifier: GPL-2.0-only
"""1,000 nights: `history`, `flakes` and the page of a night answer within a second. No machine is booted."""

import os
from pathlib import Path

import pytest
from many_nights import LIMIT_S, Size, commands, cpu_seconds, fill

FULL = bool(os.environ.get("VFIO_HARNESS_FULL_HISTORY"))
"""Measure 12 cells, 3.6 million verdicts, instead of 3. It takes minutes to make them."""


@pytest.mark.parametrize("one_kernel", [True, False], ids=["one kernel", "a kernel each night"])
def test_a_thousand_nights_are_answered_within_a_second(tmp_path: Path, one_kernel: bool) -> None:
    """``-s`` prints the CPU time of each command, start of Python included."""
    size = Size(nights=1000, cells=12 if FULL else 3, cases=300)
    last = fill(tmp_path / "nightly", size, one_kernel=one_kernel)
    env = {**os.environ, "VFIO_HARNESS_RESULTS": str(tmp_path)}
    taken = {name: cpu_seconds(command, env) for name, command in commands(size, last).items()}
    print({name: round(seconds, 2) for name, seconds in taken.items()})
    assert max(taken.values()) < LIMIT_S, taken

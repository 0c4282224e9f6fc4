# SPDX-License-Identifier: GPL-2.0-only
"""Running a program that the host sends, here with scripts of a shell."""

import time
from pathlib import Path

import pytest

from harness.guest import programs

SHELL = b"#!/bin/sh\n"


@pytest.mark.parametrize(
    ("script", "status", "output"),
    [
        (b'echo "out $1"; echo err >&2; exit 3', 3, "out a b\nerr\n"),
        (b"kill -SEGV $$", -11, ""),
        (b"printf '\\377'", 0, "�"),
        (b"read line || echo none; ls", 0, "none\nprogram\n"),
    ],
)
def test_status_and_output(script: bytes, status: int, output: str) -> None:
    assert programs.run(SHELL + script, ["a b"], 10.0) == (status, output)


def test_deadline_ends_all_that_the_program_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = SHELL + f"sleep 60 & echo $! > {pid}; echo started; wait".encode()
    started = time.monotonic()
    assert programs.run(script, [], 0.5) == (None, "started\n")
    assert time.monotonic() - started < 10
    status = Path(f"/proc/{int(pid.read_text())}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_long_output_is_cut() -> None:
    _, output = programs.run(SHELL + b"yes | head -c 1000000", [], 10.0)
    assert len(output) == programs.OUTPUT_LIMIT

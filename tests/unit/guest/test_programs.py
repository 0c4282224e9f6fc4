# SPDX-License-Identifier: GPL-2.0-only
"""Running a program that the host sends, here with scripts of a shell."""

import time
from pathlib import Path

import pytest
from processes import wait_until_gone

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
    wait_until_gone(int(pid.read_text()))


def test_long_output_is_cut() -> None:
    _, output = programs.run(SHELL + b"yes | head -c 1000000", [], 10.0)
    assert len(output) == programs.OUTPUT_LIMIT


@pytest.mark.parametrize(("available", "fits"), [(72, True), (71, False)])
def test_huge_pages_are_reserved_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, fits: bool
) -> None:
    reserved = tmp_path / "nr_hugepages"
    reserved.write_text("0")
    monkeypatch.setattr(programs, "HUGE_PAGES", str(reserved))
    monkeypatch.setattr(programs.files, "write", lambda path, text: reserved.write_text(str(min(int(text), available))))
    script = SHELL + f"cat {reserved}".encode()
    if fits:
        assert programs.run(script, [], 10.0, huge_pages=72) == (0, "72")
    else:
        with pytest.raises(MemoryError, match="71 of 72 huge pages"):
            programs.run(script, [], 10.0, huge_pages=72)
    assert reserved.read_text() == "0"

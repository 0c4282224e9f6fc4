# SPDX-License-Identifier: GPL-2.0-only
"""Test the QEMU process with real processes: it dies with its owner, and its end is reported in full."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import gone, wait_until_gone

from harness.errors import LaunchError
from harness.escape import escaped
from harness.vm.process import LoopThread, Process, tail

DEADLINE = 10.0


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    yield thread
    thread.close()


def start(thread: LoopThread, stderr: Path, *command: str) -> Process:
    return thread.run(Process.start(command, stderr, ()), DEADLINE)


def test_exit_is_reported(thread: LoopThread, tmp_path: Path) -> None:
    process = start(thread, tmp_path / "err", "sh", "-c", "echo cannot do that >&2; exit 3")
    assert thread.run(process.wait(), DEADLINE) == 3
    message = str(process.launch_error("QEMU did not start"))
    assert message.startswith("QEMU did not start: exit code 3\ncannot do that\n")
    assert "sh \\\n    -c 'echo cannot do that" in message


def test_exit_by_signal_is_reported(thread: LoopThread, tmp_path: Path) -> None:
    process = start(thread, tmp_path / "err", "sleep", "100")
    os.kill(process.pid, signal.SIGABRT)
    assert thread.run(process.wait(), DEADLINE) == -signal.SIGABRT
    assert process.describe_exit() == "killed by SIGABRT"


def test_kill_reaps(thread: LoopThread, tmp_path: Path) -> None:
    process = start(thread, tmp_path / "err", "sleep", "100")
    thread.run(process.kill(), DEADLINE)
    assert not Path(f"/proc/{process.pid}").exists()


def test_missing_program(thread: LoopThread, tmp_path: Path) -> None:
    process = start(thread, tmp_path / "err", "/nonexistent/qemu")
    assert thread.run(process.wait(), DEADLINE) == 127
    assert "/nonexistent/qemu" in process.stderr_tail()


def test_unwritable_directory(thread: LoopThread, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="No such file or directory"):
        start(thread, tmp_path / "absent" / "err", "true")


OWNER = """
import sys, threading, time
from pathlib import Path
from harness.escape import escaped
from harness.vm.process import LoopThread, Process
def begin():
    thread = LoopThread("owner")
    print(thread.run(Process.start(["sleep", "100"], Path(sys.argv[1]), ()), 10).pid, flush=True)
beginner = threading.Thread(target=begin)
beginner.start()
beginner.join()  # the thread that asked for it is gone, which must not matter
time.sleep(0.2)
print("alive", flush=True)
time.sleep(100)
"""


def test_dies_with_a_killed_owner_but_not_with_the_thread_that_asked(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OWNER, str(tmp_path / "err")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout
            pid = int(owner.stdout.readline())
            assert owner.stdout.readline() == "alive\n"
            assert not gone(pid)
        finally:
            owner.kill()
    wait_until_gone(pid)


def test_noise_is_left_out_of_stderr(thread: LoopThread, tmp_path: Path) -> None:
    noise = "qemu: warning: TCG doesn't support requested feature: CPUID.07H:EBX.rdseed [bit 18]"
    process = start(thread, tmp_path / "err", "printf", "%s\n", noise, "Blocked re-entrant IO", noise)
    thread.run(process.wait(), DEADLINE)
    assert process.stderr_tail() == "Blocked re-entrant IO\n"


def test_tail_is_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"first line\nsecond\nthird\n")
    assert tail(file, 100) == "first line\nsecond\nthird\n"
    assert tail(file, 9) == "third\n"
    assert tail(tmp_path / "absent", 9) == ""


def test_guest_output_cannot_reach_the_terminal() -> None:
    assert escaped(b"a\x1b[2Jb\r\nc\td\x00\xff") == "a\\x1b[2Jb\nc\td\\x00\\xff"

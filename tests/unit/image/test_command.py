# SPDX-License-Identifier: GPL-2.0-only
"""Programs of the build: their failures are told in their own words, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError, MissingPrerequisite
from harness.image import command


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def _wait_for(path: Path) -> int:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return int(path.read_text())
        time.sleep(0.01)
    pytest.fail(f"{path} was not written")


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while not _gone(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.01)


def test_output_comes_back() -> None:
    assert command.run(["/bin/sh", "-c", "echo out; echo err >&2"], timeout_s=5) == "out\nerr\n"


def test_failure_quotes_the_last_lines() -> None:
    with pytest.raises(HarnessError, match="status 3") as caught:
        command.run(["/bin/sh", "-c", "seq 100; exit 3"], timeout_s=5)
    assert "100" in str(caught.value)
    assert "\n10\n" not in str(caught.value)


def test_full_disk_is_called_so() -> None:
    with pytest.raises(HarnessError, match="No space left on device") as caught:
        command.run(["/bin/sh", "-c", "cat /proc/version > /dev/full"], timeout_s=5)
    assert "VFIO_HARNESS_CACHE" in str(caught.value.hint)


def test_missing_program_names_its_package() -> None:
    with pytest.raises(MissingPrerequisite, match="no-such-program") as caught:
        command.require("no-such-program", "some-package")
    assert caught.value.hint == "sudo apt-get install some-package"


def test_deadline_ends_grandchildren_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(HarnessError, match="took over"):
        command.run(["/bin/sh", "-c", f"sh -c 'echo $$ > {pid}; exec sleep 60' & wait"], timeout_s=0.5)
    _wait_gone(_wait_for(pid))


def test_it_dies_with_us(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; exec sleep 60"
    code = f"from harness.image import command; command.run(['/bin/sh', '-c', {script!r}], timeout_s=60)"
    with subprocess.Popen([sys.executable, "-c", code]) as harness:
        child = _wait_for(pid)
        harness.send_signal(signal.SIGKILL)
    _wait_gone(child)

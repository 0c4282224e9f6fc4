# SPDX-License-Identifier: GPL-2.0-only
"""Follow host programs. No program outlives an error, Ctrl-C, or SIGKILL of the harness."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from processes import wait_until_gone

from harness.errors import HarnessError, MissingPrerequisite
from harness.host import process

# a program with a child, as make has compilers; it prints the child's pid
TWO_PROCESSES = ["sh", "-c", "sleep 60 & echo $!; wait"]

Tie = Callable[[Sequence[str | Path]], list[str]]


def test_lines_and_status(tmp_path: Path) -> None:
    lines: list[str] = []
    assert (
        process.run(["sh", "-c", "echo one; echo two >&2; printf three; exit 3"], cwd=tmp_path, on_line=lines.append)
        == 3
    )
    assert lines == ["one", "two", "three"]


def test_a_failure_quotes_the_error_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="exit status 100: E: Unable to locate"):
        process.check(["sh", "-c", "echo 'E: Unable to locate'; echo more; exit 100"], cwd=tmp_path)


def test_a_failure_quotes_the_last_lines_on_request(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="exit status 3") as error:
        process.check(["sh", "-c", "echo E: first; seq 100; exit 3"], cwd=tmp_path, quoted=8)
    assert "100" in str(error.value)
    assert "\n10\n" not in str(error.value)
    assert "first" not in str(error.value)


def test_a_full_disk_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no space left in /") as error:
        process.check(["sh", "-c", "cat /proc/version > /dev/full"], cwd=tmp_path)
    assert "VFIO_HARNESS_CACHE" in str(error.value.hint)


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    env = process.environment()
    (tmp_path / "bin").mkdir()
    for name in ("setpriv", "sh"):
        found = next(Path(d, name) for d in env["PATH"].split(":") if Path(d, name).exists())
        (tmp_path / "bin" / name).symlink_to(found)
    with pytest.raises(MissingPrerequisite, match=r"mkfs\.erofs") as e:
        process.check(["mkfs.erofs"], cwd=tmp_path, env={**env, "PATH": str(tmp_path / "bin")})
    assert e.value.hint == "apt-get install erofs-utils"


def test_an_interrupt_kills_children_too(tmp_path: Path) -> None:
    child = 0

    def interrupt(line: str) -> None:
        nonlocal child
        child = int(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run(TWO_PROCESSES, cwd=tmp_path, on_line=interrupt)
    wait_until_gone(child)


def test_a_silent_program_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SILENCE_S", 0.2)
    monkeypatch.setattr(process, "TICK_S", 0.1)
    with pytest.raises(HarnessError, match="sleep printed nothing"):
        process.run(["sleep", "60"], cwd=tmp_path)


def test_a_time_limit_kills_children_too(tmp_path: Path) -> None:
    children: list[int] = []
    with pytest.raises(HarnessError, match=r"sh took over 0\.2 s"):
        process.run(TWO_PROCESSES, cwd=tmp_path, on_line=lambda line: children.append(int(line)), timeout_s=0.2)
    wait_until_gone(children[0])


def test_a_process_without_children_is_tied_by_a_signal(tmp_path: Path) -> None:
    code = "import subprocess, signal; from harness.host.process import tied\n"
    code += "subprocess.Popen(tied(['sh', '-c', 'echo $$; exec sleep 60'], signal.SIGKILL)); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        child = int(harness.stdout.readline())
        os.kill(harness.pid, signal.SIGKILL)
    wait_until_gone(child)


@pytest.mark.parametrize("tie", [lambda command: process.tied(command, signal.SIGKILL), process.tied_group])
def test_a_program_whose_parent_has_already_ended_does_not_run(tmp_path: Path, tie: Tie) -> None:
    """The shell in between is another parent, like init if the harness was killed before the tie."""
    touch = tie(["touch", tmp_path / "ran"])
    subprocess.run(touch, check=True)
    (tmp_path / "ran").unlink()
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *touch], check=True, start_new_session=True)
    assert not (tmp_path / "ran").exists()


def test_sigkill_of_the_harness_kills_children_too(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from harness.host import process\n"
    code += f"process.run({TWO_PROCESSES!r}, cwd=Path({str(tmp_path)!r}), on_line=lambda l: print(l, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        child = int(harness.stdout.readline())
        os.kill(harness.pid, signal.SIGKILL)
    wait_until_gone(child)


def test_make_variables_of_the_caller_do_not_reach_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAKEFLAGS", "ARCH", "KBUILD_OUTPUT", "KCFLAGS", "O"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("CCACHE_DIR", "/c")
    env = process.environment(EXTRA="1")
    assert {"MAKEFLAGS", "ARCH", "KBUILD_OUTPUT", "KCFLAGS", "O"}.isdisjoint(env)
    assert (env["CCACHE_DIR"], env["EXTRA"], env["LC_ALL"]) == ("/c", "1", "C")

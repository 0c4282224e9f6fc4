# SPDX-License-Identifier: GPL-2.0-only
"""Host programs that may run for minutes: followed line by line, and gone when the harness is, whatever ended it."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite
from harness.host.faults import host_fault
from harness.host.packages import install_line

TICK_S = 1.0
GONE_S = 2.0
SILENCE_S = 900.0
"""A program that says nothing for this long is stuck; the longest honest silence is one link of a debug kernel."""

# The shell leads the process group. SIGKILL of the harness cannot be caught, so the kernel tells the shell
# (PR_SET_PDEATHSIG), and the shell takes the group with it: make's children would outlive make.
_GUARD = ["setpriv", "--pdeathsig", "TERM", "sh", "-c", 'trap "kill -KILL 0" TERM; "$@" & wait $!', "sh"]

# From the user's environment only this much: make's and Kbuild's own variables (MAKEFLAGS, ARCH, O, KCFLAGS...)
# would steer the build when the harness itself is run by make.
_KEEP = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
_KEEP_PREFIX = "CCACHE_"
_NOT_FOUND = 127


def environment(**extra: str) -> dict[str, str]:
    """The environment host programs run in: few of the user's variables, messages in English, and ``extra``."""
    kept = {k: v for k, v in os.environ.items() if k in _KEEP or k.startswith(_KEEP_PREFIX)}
    path = kept.get("PATH", os.defpath)
    return {**kept, "PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C", **extra}


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
) -> int:
    """Run to the end and return the exit status; ``on_line`` gets each line of stdout and stderr as it comes,
    ``on_tick`` is called about once a second meanwhile. Whatever is raised here or in a callback, Ctrl-C
    included, the program and all its children are killed first.

    Raises MissingPrerequisite if the program is not there, HarnessError after ``SILENCE_S`` without output.
    """
    try:
        proc = subprocess.Popen(
            [*_GUARD, *map(str, args)],
            cwd=cwd,
            env=environment() if env is None else env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise MissingPrerequisite(f"{e.filename} is not there", hint="apt-get install util-linux") from e
    try:
        _follow(proc, str(args[0]), on_line, on_tick)
        return proc.wait()
    except BaseException:
        _kill_group(proc)
        raise


def _kill_group(proc: subprocess.Popen[bytes]) -> None:
    """Kill the group, and see it gone: killed processes take a moment to go, and only the shell is our child."""
    deadline = time.monotonic() + GONE_S
    with suppress(ProcessLookupError):
        os.killpg(proc.pid, signal.SIGKILL)
    proc.wait()
    while is_alive(proc.pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def is_alive(group: int) -> bool:
    """Whether any process of the group is. Dead ones may stay in /proc for seconds, until a lazy init reaps them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, pgrp = stat.read_bytes().rpartition(b")")[2].split()[:3]
            if int(pgrp) == group and state != b"Z":
                return True
    return False


def check(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
) -> list[str]:
    """As ``run``, but returns the lines, and raises where the program fails: MissingPrerequisite if it is not
    there, else HarnessError with its error line."""
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        on_line(line)

    status = run(args, cwd=cwd, env=env, on_line=keep, on_tick=on_tick)
    name = str(args[0])
    if status == _NOT_FOUND:
        raise MissingPrerequisite(f"{name} is not there", hint=install_line([name]))
    if status:
        said = next((line for line in lines if line.startswith(("E:", "Err:"))), lines[-1] if lines else "no message")
        raise host_fault(lines) or HarnessError(f"{name} failed with exit status {status}: {said}")
    return lines


def _follow(
    proc: subprocess.Popen[bytes], name: str, on_line: Callable[[str], None], on_tick: Callable[[], None]
) -> None:
    assert proc.stdout is not None
    pending = b""
    heard = ticked = time.monotonic()
    with proc.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=max(0.0, ticked + TICK_S - time.monotonic())):
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    break
                heard = time.monotonic()
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    on_line(line.decode(errors="replace"))
            now = time.monotonic()
            if now - ticked >= TICK_S:
                ticked = now
                on_tick()
            if now - heard > SILENCE_S:
                raise HarnessError(f"{name} said nothing for {SILENCE_S:.0f} s, and was killed")
    if pending:
        on_line(pending.decode(errors="replace"))

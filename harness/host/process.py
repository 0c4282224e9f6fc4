# SPDX-License-Identifier: GPL-2.0-only
"""Host programs: one way to tie a child to the harness, and one way to follow its output.

The output is followed with selectors, not asyncio. Callers are synchronous: they parse lines, show progress, and raise
from a callback. asyncio would add a loop and its thread, and PR_SET_PDEATHSIG fires when the *thread* that forked the
child ends.
"""

import ctypes
import logging
import math
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite
from harness.host.faults import host_fault
from harness.host.packages import install_line, require

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often ``on_tick`` is called."""
GONE_S = 2.0
"""The longest wait for the processes of a killed group to disappear."""
SILENCE_S = 900.0
"""A program that prints nothing for this long is stuck; the longest real silence is one link of a debug kernel."""
PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>"""

# Only these variables of the user are kept: make's and Kbuild's own (MAKEFLAGS, ARCH, O, KCFLAGS...)
# would change the build when the harness itself is run by make.
_KEEP = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
_KEEP_PREFIX = "CCACHE_"
_NOT_FOUND = 127


# Kill the child if the harness dies. SIGKILL of the harness cannot be caught, so the host's kernel does it: it sends
# the child the signal of prctl(PR_SET_PDEATHSIG) when its parent ends. There are three forms:
# - tied(command, SIGKILL): a single process with nothing to clean up, such as QEMU;
# - tied(command, SIGTERM): a run of the harness, which handles SIGTERM like Ctrl-C and cleans up;
# - tied_group(command): a program with children, such as make. They would outlive it, so a shell leads the process
#   group, gets the signal, and kills the group.
# A forked process has no command to wrap: it calls tie_to_parent().
# No signal comes if the parent ended before prctl(). So each form then checks that the parent is still the same.


def tied(command: Sequence[str | Path], number: signal.Signals) -> list[str]:
    """Return the command that runs ``command`` and gets signal ``number`` when the thread that starts it ends.

    Only this process may start it: ``command`` does not run under another parent. Raises MissingPrerequisite without
    setpriv."""
    return _tied('exec "$@"', command, number)


def tied_group(command: Sequence[str | Path]) -> list[str]:
    """As ``tied``, but the whole process group is killed. The caller starts it in a new session."""
    return _tied('trap "kill -KILL 0" TERM; "$@" & wait $!', command, signal.SIGTERM)


def _tied(script: str, command: Sequence[str | Path], number: signal.Signals) -> list[str]:
    """Return the command that ties a shell to this process, and runs ``script`` in it with ``command`` as ``"$@"``."""
    tie = [require("setpriv"), "--pdeathsig", number.name.removeprefix("SIG"), "--"]
    check_parent = '[ "$PPID" = "$1" ] || exit; shift; '
    return [*tie, "sh", "-c", check_parent + script, "sh", str(os.getpid()), *map(str, command)]


def tie_to_parent(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send this forked process ``number`` when its parent ends.

    Returns False if the process ``parent`` has already ended: then no signal comes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for host programs: few of the user's variables, messages in English, and ``extra``."""
    kept = {name: value for name, value in os.environ.items() if name in _KEEP or name.startswith(_KEEP_PREFIX)}
    path = kept.get("PATH", os.defpath)
    return {**kept, "PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C", **extra}


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    timeout_s: float = math.inf,
) -> int:
    """Run a program to its end and return its exit status.

    ``on_line`` gets each line of stdout and stderr; ``on_tick`` is called about once a second. If this or a callback
    raises, Ctrl-C included, the program and all its children are killed first.

    Raises MissingPrerequisite without setpriv, HarnessError after ``SILENCE_S`` seconds without output, or after
    ``timeout_s`` seconds.
    """
    log.debug("run %s in %s", shlex.join(map(str, args)), cwd)
    proc = subprocess.Popen(
        tied_group(args),
        cwd=cwd,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with _killed_on_error(proc):
        _follow(proc, str(args[0]), on_line, on_tick, timeout_s)
        return proc.wait()


def check(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    on_tick: Callable[[], None] = lambda: None,
    timeout_s: float = math.inf,
    quoted: int = 0,
) -> list[str]:
    """As ``run``, but return the lines.

    Raises MissingPrerequisite if the program is missing, the host's fault if its output shows one, and otherwise
    HarnessError if it fails. The message quotes the last ``quoted`` lines. If that is 0, it quotes the first error line
    of apt or git, or the last line."""
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        on_line(line)

    status = run(args, cwd=cwd, env=env, on_line=keep, on_tick=on_tick, timeout_s=timeout_s)
    name = Path(args[0]).name
    if status == _NOT_FOUND:
        raise MissingPrerequisite(f"{name} is not installed", hint=install_line([name]))
    if status:
        raise host_fault(lines) or HarnessError(f"{name} failed with exit status {status}: {_quote(lines, quoted)}")
    return lines


def _quote(lines: Sequence[str], quoted: int) -> str:
    if not lines:
        return "no message"
    if quoted:
        return "\n".join(lines[-quoted:])
    return next((line for line in lines if line.startswith(("E:", "Err:", "fatal:"))), lines[-1])


def _is_alive(group: int) -> bool:
    """Check whether any process of the group runs. Dead ones may stay in /proc for seconds, until init reaps them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, pgrp = stat.read_bytes().rpartition(b")")[2].split()[:3]
            if int(pgrp) == group and state != b"Z":
                return True
    return False


@contextmanager
def _killed_on_error(proc: subprocess.Popen[bytes]) -> Iterator[None]:
    """If the body raises, kill the process group and wait until it is gone."""
    try:
        yield
    except BaseException:
        deadline = time.monotonic() + GONE_S
        with suppress(ProcessLookupError):
            os.killpg(proc.pid, signal.SIGKILL)
        proc.wait()
        while _is_alive(proc.pid) and time.monotonic() < deadline:  # only the leader is a child of this process
            time.sleep(0.01)
        raise


def _follow(
    proc: subprocess.Popen[bytes],
    name: str,
    on_line: Callable[[str], None],
    on_tick: Callable[[], None],
    timeout_s: float,
) -> None:
    """Read the output of ``proc`` to its end, line by line."""
    assert proc.stdout is not None
    pending = b""
    started = printed = ticked = time.monotonic()
    with proc.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=max(0.0, ticked + TICK_S - time.monotonic())):
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    break
                printed = time.monotonic()
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    on_line(line.decode(errors="replace"))
            now = time.monotonic()
            if now - ticked >= TICK_S:
                ticked = now
                on_tick()
            if now - printed > SILENCE_S:
                raise HarnessError(f"{name} printed nothing for {SILENCE_S:.0f} s, and was killed")
            if now - started > timeout_s:
                raise HarnessError(f"{name} took over {timeout_s:g} s, and was killed")
    if pending:
        on_line(pending.decode(errors="replace"))

# SPDX-License-Identifier: GPL-2.0-only
"""Programs the build runs: none outlives us, and a failure is told with the program's own last words."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite

_NO_SPACE = "No space left on device"
_NO_SPACE_TOLD = (_NO_SPACE, "You don't have enough free space")  # libc's words, and apt's

# Runs its arguments; on SIGTERM it kills its process group, so all that came of them, at once.
_SUPERVISOR = """trap 'kill -KILL 0' TERM; "$@" & wait $!"""


def require(program: str, package: str) -> str:
    """The program's path; MissingPrerequisite says which Debian package brings it. sbin counts, on PATH or not."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise MissingPrerequisite(f"{program} is not installed", hint=f"sudo apt-get install {package}")
    return path


def run(argv: Sequence[str | Path], *, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed; HarnessError if it fails or takes over ``timeout_s``.

    Nothing of it is left when this returns or raises, nor when we are killed (setpriv's --pdeathsig): mmdebstrap, for
    one, would finish its download first.
    """
    setpriv = require("setpriv", "util-linux")
    command = [setpriv, "--pdeathsig", "TERM", "--", "/bin/sh", "-c", _SUPERVISOR, "sh", *map(str, argv)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=None if env is None else {**os.environ, **env},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HarnessError(f"{argv[0]} took over {timeout_s:.0f} s: {' '.join(map(str, argv))}") from error
            raise
    if process.returncode:
        raise failure(str(argv[0]), process.returncode, output)
    return output


def failure(program: str, status: int, output: str) -> HarnessError:
    """What to tell of a program that failed: a full disk by its name, else the last lines it printed."""
    name = Path(program).name
    if any(words in output for words in _NO_SPACE_TOLD):
        return disk_full(name)
    last = "\n".join(output.strip().splitlines()[-8:])
    return HarnessError(f"{name} failed with status {status}:\n{last}")


def disk_full(what: str) -> HarnessError:
    """The one message for a full disk."""
    return HarnessError(f"{what}: {_NO_SPACE}", hint="the guest image needs 500 MB; VFIO_HARNESS_CACHE says where")

# SPDX-License-Identifier: GPL-2.0-only
"""Programs the build runs: none outlives us, and a failure is told with the program's own last words."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite

_GRACE_S = 3.0
_NO_SPACE = "No space left on device"


def require(program: str, package: str) -> str:
    """The program's path; MissingPrerequisite says which Debian package brings it. sbin counts, on PATH or not."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise MissingPrerequisite(f"{program} is not installed", hint=f"sudo apt-get install {package}")
    return path


def run(argv: Sequence[str | Path], *, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed; HarnessError if it fails or takes over ``timeout_s``.

    It gets a process group of its own, which is ended with the call; and SIGTERM if we are killed
    (setpriv's --pdeathsig), upon which mmdebstrap ends its own children and removes its files.
    """
    setpriv = require("setpriv", "util-linux")
    command = [setpriv, "--pdeathsig", "TERM", "--", *map(str, argv)]
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
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HarnessError(f"{argv[0]} took over {timeout_s:.0f} s: {' '.join(map(str, argv))}") from error
            raise
    if process.returncode:
        raise failure(str(argv[0]), process.returncode, output)
    return output


def _end(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def failure(program: str, status: int, output: str) -> HarnessError:
    """What to tell of a program that failed: a full disk by its name, else the last lines it printed."""
    name = Path(program).name
    if _NO_SPACE in output:
        return disk_full(name)
    last = "\n".join(output.strip().splitlines()[-8:])
    return HarnessError(f"{name} failed with status {status}:\n{last}")


def disk_full(what: str) -> HarnessError:
    """The one message for a full disk."""
    return HarnessError(
        f"{what}: {_NO_SPACE}", hint="the guest image needs 300 MB; VFIO_HARNESS_CACHE and TMPDIR say where"
    )

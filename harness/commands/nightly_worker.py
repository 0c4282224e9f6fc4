# SPDX-License-Identifier: GPL-2.0-only
"""The part of a night that runs on a Dask worker: one child process of ``vfio-harness``, and its results as bytes.

The worker itself does nothing else. So a machine that takes its host down costs a worker, and no state.
"""

import hashlib
import importlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__, paths
from harness.commands.children import ERROR, LOG, PROGRAM, RUN_S
from harness.errors import HarnessError
from harness.host.process import tied
from harness.host.tar import unpack_files
from harness.run.workers import default_jobs

TICK_S = 0.5
LEAVE_S = 3.0
"""Grace period between SIGTERM and SIGKILL, in seconds."""
MOST_BYTES = 64 << 20
"""The most bytes that a run may return. The files of its machines are left out if they are more."""
MOST_UNPACKED = 1 << 30
MOST_FILES = 100_000
"""The most bytes of the files in an archive."""
MOST_LINES = 64 << 10
"""The most bytes of output that are streamed at a time."""

ALIVE = ("running", "paused")
"""States of a worker that goes on with its tasks; source: distributed, core.py, Status."""

_ending: set[str] = set()
"""The keys of the runs in this process that must end."""


@dataclass(frozen=True)
class WorkerFacts:
    """What the engine must know of a worker."""

    process: tuple[int, str]
    """Its process id, and when it started, in the clock ticks of proc(5): a worker that was restarted is another."""
    version: str
    """The version of vfio-harness."""
    jobs: int
    """How many machines a run on it has by default."""


@dataclass(frozen=True)
class RemoteRun:
    """What a run returns."""

    exit_code: int
    """Of the command, or minus the number of the signal that ended it."""
    archive: bytes
    """Its results, as tar.gz."""
    sha256: str
    """Of the archive."""
    note: str = ""
    """What is missing in it, in one sentence."""


def facts(dask_worker: Any = None) -> WorkerFacts:
    """Describe this worker. Dask fills ``dask_worker``."""
    stat = Path(f"/proc/{os.getpid()}/stat").read_text(encoding="ascii", errors="replace")
    started = stat.rpartition(")")[2].split()[19]
    return WorkerFacts((os.getpid(), started), __version__, default_jobs())


def end_run(key: str) -> None:
    """End a run of this worker as Ctrl-C does."""
    _ending.add(key)


def run_child(
    key: str, process: tuple[int, str], arguments: Sequence[str], cases: Sequence[str], environment: dict[str, str]
) -> RemoteRun:
    """Run ``vfio-harness`` with these arguments in a directory of its own, and return its results.

    The output is streamed as events of the topic ``key``. The child ends when the worker does, when ``end_run`` says
    so, and when nobody waits for its results any more.

    Args:
        key: The task's key.
        process: The worker for which the task is meant. It never runs on another: that could be a second time.
        arguments: The subcommand, and its options.
        cases: Pytest node ids relative to ``paths.TOP``; empty: all.
        environment: Variables of the engine that the run needs.

    Raises HarnessError on another worker than that.
    """
    worker = importlib.import_module("distributed").get_worker()
    if facts().process != tuple(process):
        raise HarnessError("the worker for which this run was meant was lost")
    directory = Path(tempfile.mkdtemp(prefix="vfio-harness-run-"))
    try:
        own = [f"--run-directory={directory}", f"--error-file={directory / ERROR}"]
        command = [*PROGRAM, *arguments, *own, *(str(paths.TOP / case) for case in cases)]
        code = _follow(
            command,
            directory,
            environment,
            lambda text: worker.log_event(key, text),
            lambda: key in _ending or not _is_wanted(worker, key),
        )
        archive, note = pack(directory)
    finally:
        _ending.discard(key)
        shutil.rmtree(directory, ignore_errors=True)
    return RemoteRun(code, archive, hashlib.sha256(archive).hexdigest(), note)


def _is_wanted(worker: Any, key: str) -> bool:
    """Return whether the worker is alive and the scheduler still waits for the task."""
    task = worker.state.tasks.get(key)
    return worker.status.name in ALIVE and task is not None and task.state in ("executing", "long-running")


def _follow(
    command: Sequence[str],
    directory: Path,
    environment: dict[str, str],
    stream: Callable[[str], None],
    must_end: Callable[[], bool],
) -> int:
    """Run a command to its end and stream its output, or end it. Return its exit code.

    This thread waits until the child has ended, so that PR_SET_PDEATHSIG comes with the end of the worker only.
    """
    began = time.monotonic()
    log = directory / LOG
    with log.open("wb") as output:
        child = subprocess.Popen(
            tied(command, signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        with log.open("rb") as printed:
            while True:
                try:
                    code = child.wait(TICK_S)
                except subprocess.TimeoutExpired:
                    code = None
                while text := printed.read(MOST_LINES):
                    stream(text.decode(errors="replace"))
                if code is not None:
                    return code
                if must_end() or time.monotonic() - began > RUN_S:
                    return _end(child)
    except BaseException:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    try:
        return child.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its own children die with it
        return child.wait()


def pack(directory: Path, most: int = MOST_BYTES) -> tuple[bytes, str]:
    """Return the files of a run as tar.gz, and what is missing in it. The reports come before the machines' files.

    Raises HarnessError if even the reports are more than ``most`` bytes.
    """
    reports = sorted(path for path in directory.iterdir() if path.is_file())
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".img")
    with tempfile.TemporaryFile() as out:
        for chosen, note in ((files, ""), (reports, "the files of its machines are too large, and were left out")):
            out.seek(0)
            out.truncate()
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
                for path in chosen:
                    archive.add(path, path.relative_to(directory), recursive=False)
                    if out.tell() > most:
                        break
            if (size := out.tell()) <= most:
                out.seek(0)
                return out.read(), note
    raise HarnessError(f"the reports of the run have more than {most >> 20} MiB ({size >> 20} MiB)")


def unpack(run: RemoteRun, directory: Path) -> None:
    """Write the files of a run into ``directory``.

    Raises HarnessError if the archive is damaged, too large, or holds anything but files below ``directory``.
    """
    if hashlib.sha256(run.archive).hexdigest() != run.sha256:
        raise HarnessError("the results of the run were damaged on their way: their SHA-256 differs")
    subject, limits = "the results of the run", {"most_bytes": MOST_UNPACKED, "most_files": MOST_FILES}
    unpack_files(io.BytesIO(run.archive), directory, subject, mode="r:gz", **limits)

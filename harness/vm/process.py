# SPDX-License-Identifier: GPL-2.0-only
"""Run the QEMU process, and the thread that owns it.

``harness.host.process.tied`` has the kernel kill QEMU when the *thread* that forked it ends. So the thread that
runs its QMP forks it: that thread lives as long as the machine.
"""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import LaunchError
from harness.escape import escaped
from harness.host.process import tied
from harness.vm.command import shown

log = logging.getLogger(__name__)

T = TypeVar("T")
STDERR_TAIL = 16 * 1024
NOISE = re.compile(
    r"warning: (TCG|host) doesn't support requested feature: |^vfio-harness: self-check: "
    r"|: iommu map to non memory area [0-9a-f]+$",
    re.MULTILINE,
)
"""QEMU prints one line per vCPU and feature of a CPU model that the accelerator lacks; the guest runs all the same.
The second line is the witness's own (harness/witness/selfcheck.py). The third comes with each page of a BAR that is
mapped for a vfio-user device (QEMU hw/vfio/listener.c), which cannot map it itself and asks QEMU for each DMA."""


class LoopThread:
    """An asyncio loop in a thread of its own. Other threads may call its methods."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start ``coroutine`` in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run ``coroutine`` in the loop and return its result.

        Raises TimeoutError after ``timeout`` seconds. A timeout and Ctrl-C cancel the coroutine.
        """
        future = self.submit(asyncio.wait_for(coroutine, timeout))
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel the tasks left in the loop, and end the thread."""
        self.submit(_cancel_all()).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Process:
    """A running QEMU. Its coroutines run in the loop that started it."""

    def __init__(self, process: subprocess.Popen[bytes], command: Sequence[str], stderr: Path) -> None:
        self.command = list(command)
        self._process = process
        self._stderr = stderr
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def start(cls, command: Sequence[str], stderr: Path, pass_fds: Sequence[int]) -> "Process":
        """Start ``command``. Raises MissingPrerequisite without setpriv, LaunchError if it cannot be executed."""
        tied_command = tied(command, signal.SIGKILL)
        log.debug("start %s", shlex.join(command))
        try:
            stderr.unlink(missing_ok=True)
            with stderr.open("ab") as output:  # append: the witness of stderr writes to it too
                process = subprocess.Popen(
                    tied_command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=pass_fds,
                    start_new_session=True,  # Ctrl-C signals the harness only, which then ends QEMU
                )
        except OSError as error:
            raise LaunchError(f"cannot start QEMU: {error}\n{shown(list(command))}") from None
        return cls(process, command, stderr)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set_result(self._process.wait())

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its exit status: minus the signal's number if a signal ended it."""
        return await asyncio.shield(self._exited)

    async def kill_after(self, seconds: float) -> None:
        """Wait ``seconds`` for it to exit by itself, then kill it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), seconds)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and reap it. Nothing is lost: drives are written through the host's page cache."""
        self._process.kill()
        await self.wait()

    def stderr_tail(self, limit: int = STDERR_TAIL) -> str:
        """Return the last ``limit`` bytes of QEMU's stderr, escaped, without noise."""
        lines = tail(self._stderr, limit).splitlines(keepends=True)
        return "".join(line for line in lines if not NOISE.search(line))

    def describe_exit(self) -> str:
        """Return ``killed by SIGABRT`` or ``exit code 1``."""
        status = self._process.returncode
        if status is not None and status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit code {status}"

    def launch_error(self, what: str) -> LaunchError:
        """Return an error for ``what``, with exit code, stderr and command line."""
        said = self.stderr_tail().strip() or "(no output)"
        return LaunchError(f"{what}: {self.describe_exit()}\n{said}\n\n{shown(self.command)}")


def tail(path: Path, limit: int) -> str:
    """Return the lines in the last ``limit`` bytes of a file of QEMU or the guest, escaped; "" without a file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-min(limit, size), os.SEEK_END)
            raw = file.read(limit)
    except FileNotFoundError:
        return ""
    return escaped(raw if size <= limit else raw[raw.find(b"\n") + 1 :])

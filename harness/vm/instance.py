# SPDX-License-Identifier: GPL-2.0-only
"""Run one QEMU with its QMP link and thread, started and ended together."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.vm.command import Channels
from harness.vm.process import LoopThread, Process
from harness.vm.qmp import Event, Qmp, QmpError

GREETING_S = 30.0
"""Deadline from fork to QMP greeting: 0.15 s on an idle host."""


@dataclass(frozen=True)
class Files:
    """The files that one QEMU writes, in a directory of its own."""

    console: Path
    trace: Path
    stderr: Path

    @classmethod
    def within(cls, directory: Path) -> "Files":
        """Return the usual names in ``directory``, and create it. Raises HarnessError."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(f"{directory}: {error.strerror}") from None
        return cls(directory / "console.log", directory / "trace.log", directory / "qemu.stderr")


class Instance:
    """One QEMU from ``start`` to ``close``. ``on_event`` is called in the loop's thread."""

    process: Process | None = None

    def __init__(self, files: Files, on_event: Callable[[Event], None]) -> None:
        self.thread = LoopThread("qemu")
        self.qmp = Qmp(self.thread, on_event)
        self._files = files
        self._changing = asyncio.Lock()

    def start(self, command: Sequence[str], gdb_port: int | None = None, fds: Sequence[int] = ()) -> None:
        """Start ``command`` with the channels' options, and run the guest once QMP is connected. Raises LaunchError.

        ``fds``: descriptors that QEMU inherits.
        """
        self.thread.run(self._start_whole(command, gdb_port, fds), 2 * GREETING_S)

    async def _start_whole(self, command: Sequence[str], gdb_port: int | None, fds: Sequence[int]) -> None:
        async with self._changing:  # a start that Ctrl-C cancels has ended before ``_stop`` begins
            await self._start(command, gdb_port, fds)

    async def _start(self, command: Sequence[str], gdb_port: int | None, fds: Sequence[int]) -> None:
        own, inherited = socket.socketpair()
        try:
            channels = Channels(inherited.fileno(), self._files.console, self._files.trace, gdb_port)
            whole = [*command, *channels.arguments()]
            self.process = await Process.start(whole, self._files.stderr, (inherited.fileno(), *fds))
        except BaseException:
            own.close()
            raise
        finally:
            inherited.close()
        try:
            await asyncio.wait_for(self.qmp.connect(own), GREETING_S)
            await asyncio.wait_for(self.qmp.request("cont"), GREETING_S)
        except QmpError:
            await self.process.kill_after(1.0)
            raise self.process.launch_error("QEMU did not start") from None
        except TimeoutError:
            await self.process.kill()
            raise self.process.launch_error(f"QEMU did not answer within {GREETING_S:g} s of its start") from None

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """End QEMU and the thread, or what is left of them, with a call of ``then`` in between. Takes seconds."""
        try:
            self.thread.run(self._stop(), 10.0)
            then()
        except TimeoutError:
            raise HarnessError(
                f"QEMU (pid {self.process and self.process.pid}) does not die: is it stuck in the host's kernel?"
            ) from None
        finally:
            self.thread.close()

    async def _stop(self) -> None:
        async with self._changing:
            if self.process:
                await self.process.kill()
            await self.qmp.disconnect()

# SPDX-License-Identifier: GPL-2.0-only
"""The process that is the machine's vfio-user devices: started before QEMU, programmed by cases, ended after it.

Its death says nothing about the kernel. All coroutines run in the machine's loop thread, which forks it, too: the host
kills it when that thread ends (``harness.host.process.tied``).
"""

import asyncio
import json
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.config import MachineConfig
from harness.errors import HarnessError
from harness.vm.command import VFIO_USER_OPTIONS
from harness.vm.process import LoopThread, Process, tail

READY_S = 30.0
"""Deadline from fork to ready: 0.3 s on an idle host."""
ANSWER_S = 30.0
"""Deadline of a command. A DMA takes 1 ms, but QEMU serves it only once no access waits."""
LONGEST_PATH = 100
"""Bytes of a socket's path: 108 with its end (sockaddr_un)."""
LONGEST_ANSWER = 16 << 20


class DeviceServer:
    """The server of one machine. Without vfio-user devices, every method does nothing."""

    def __init__(self, config: MachineConfig, rundir: Path, drives: Mapping[str, Path]) -> None:
        self._devices = {device.id: device.vfio_user for device, _ in config.walk() if device.vfio_user}
        self._properties = {device.id: device.properties for device, _ in config.walk()}
        self._short: Path | None = None
        names = [f"{each}.sock" for each in self._devices]
        where = rundir.absolute()
        if names and max(len(str(where / name).encode()) for name in names) > LONGEST_PATH:
            where = self._short = Path(tempfile.mkdtemp(prefix="vfio-harness-"))
        self.sockets = {each: where / f"{each}.sock" for each in self._devices}
        """The socket of each device."""
        self.logs = {each: rundir / f"{each}.device.jsonl" for each in self._devices}
        """The log of each device."""
        self._stderr = rundir / "devices.stderr"
        self._drives = drives
        self._models = {each: self._model(config, own.model) for each, own in self._devices.items()}
        self._process: Process | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self.allowance_s = 0.0
        """Seconds for which a case lets the devices hold QEMU: every deadline is that much later."""

    @staticmethod
    def _model(config: MachineConfig, name: str) -> str:
        return str((config.path.parent / name).absolute()) if name.endswith(".py") else name

    def _specs(self) -> str:
        return json.dumps(
            [
                {
                    "id": each,
                    "model": self._models[each],
                    "socket": str(self.sockets[each]),
                    "log": str(self.logs[each].absolute()),
                    "express": own.express,
                    "resets": own.resets,
                    "pm": own.pm,
                    "msix": own.msix,
                    "resizable": own.resizable,
                    "drive": str(self._drives[each].absolute()) if each in self._drives else None,
                }
                for each, own in self._devices.items()
            ]
        )

    def shell_command(self) -> str:
        """Return the lines that start the server in a shell, and wait until it listens; empty without devices."""
        if not self._devices:
            return ""
        sockets = [shlex.quote(str(path)) for path in self.sockets.values()]
        server = shlex.join((sys.executable, "-m", "harness.device", "-", self._specs()))
        # The last socket is there once the server listens on all.
        wait = f"until test -S {sockets[-1]} || ! kill -0 $!; do sleep 0.1; done"
        return f"rm -f {' '.join(sockets)}\n{server} &\n{wait}\n"

    def start(self, thread: LoopThread) -> None:
        """Start the server in ``thread`` and wait until it listens. Raises HarnessError."""
        if self._devices:
            self._thread = thread
            thread.run(self._start(), 2 * READY_S)

    async def _start(self) -> None:
        own, inherited = socket.socketpair()
        command = [sys.executable, "-m", "harness.device", str(inherited.fileno()), self._specs()]
        try:
            self._process = await Process.start(command, self._stderr, (inherited.fileno(),))
        except BaseException:
            own.close()
            raise
        finally:
            inherited.close()
        self._reader, self._writer = await asyncio.open_connection(sock=own, limit=LONGEST_ANSWER)
        try:
            first = await asyncio.wait_for(self._reader.readline(), READY_S)
        except TimeoutError:
            raise HarnessError(f"the device server is not ready within {READY_S:g} s") from None
        if not first:
            raise HarnessError(f"the device server did not start: {await self._how_it_ended()}")
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with suppress(ConnectionError):  # it was killed with a command unread
            while line := await self._reader.readline():
                answer = json.loads(line)
                waiting = self._waiting.pop(answer["id"], None)
                if waiting and not waiting.done():
                    waiting.set_result(answer)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(HarnessError("the device server has ended"))
        self._waiting.clear()

    async def ended(self) -> str | None:
        """Wait for its end, and return how it ended; None without devices."""
        return await self._how_it_ended() if self._process else None

    async def _how_it_ended(self) -> str:
        assert self._process
        await self._process.wait()
        said = tail(self._stderr, 4096).strip().splitlines()
        return f"{self._process.describe_exit()}{': ' + said[-1] if said else ''}; {self._stderr}"

    def message_timeout_s(self, device_id: str) -> float:
        """Return after how many seconds QEMU gives up waiting for the device's answer."""
        return int(self._properties[device_id].get("x-msg-timeout", VFIO_USER_OPTIONS["x-msg-timeout"])) / 1000

    def call(self, device_id: str, do: str, **args: Any) -> Any:
        """Run a command of ``harness.device.control``. Raises HarnessError if the server refuses it, or has ended."""
        return self._thread.run(self._call(device_id, do, args), ANSWER_S + 1)

    async def _call(self, device_id: str, do: str, args: dict[str, Any]) -> Any:
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        command = {"id": self._number, "device": device_id, "do": do, "args": args}
        self._writer.write(json.dumps(command).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(waiting, ANSWER_S)
        except TimeoutError:
            raise HarnessError(f"device {device_id} did not answer {do} within {ANSWER_S:g} s") from None
        if "error" in answer:
            raise HarnessError(f"device {device_id}: {do}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """End the server, after QEMU, while the thread still runs."""
        if self._process:
            self._thread.run(self._stop(), 10.0)
        for path in self.sockets.values():
            path.unlink(missing_ok=True)
        if self._short:
            shutil.rmtree(self._short, ignore_errors=True)

    async def _stop(self) -> None:
        assert self._process
        await self._process.kill()
        if hasattr(self, "_writer"):
            self._writer.close()

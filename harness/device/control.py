# SPDX-License-Identifier: GPL-2.0-only
"""The harness's link to the devices: commands as lines of JSON through a socket, and their answers.

A command is ``{"id": n, "device": id, "do": name, "args": {...}}``, its answer ``{"id": n, "ok": ...}`` or
``{"id": n, "error": text}``.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from harness.device.behaviour import Behaviour
from harness.device.function import Function
from harness.device.model import DmaRefused


class Control:
    """Runs commands on the devices."""

    def __init__(self, functions: Mapping[str, Function], answer: Callable[[dict[str, Any]], None]) -> None:
        self._functions = functions
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._series: dict[Function, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "behave": self._behave,
            "dma_write": self._dma_write,
            "dma_read": self._dma_read,
            "memory": self._memory,
            "disconnect": self._disconnect,
            "read": self._read,
            "write": self._write,
            "interrupt": self._interrupt,
            "start_series": self._start_series,
            "stop_series": self._stop_series,
        }

    def line(self, text: str) -> None:
        """Run the command of one line."""
        task = asyncio.get_running_loop().create_task(self._run(json.loads(text)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, command: dict[str, Any]) -> None:
        try:
            function = self._functions[command["device"]]
            result = await self._commands[command["do"]](function, **command["args"])
        except Exception as error:  # of the command, or of the model: without an answer the harness would wait
            self._answer({"id": command.get("id"), "error": f"{type(error).__name__}: {error}"})
        else:
            self._answer({"id": command["id"], "ok": result})

    async def _behave(self, function: Function, **fields: Any) -> None:
        function.behave(Behaviour.of(fields))

    async def _dma_write(self, function: Function, address: int, data: str) -> int:
        """Write by DMA. Returns 0, or the errno of the refusal."""
        try:
            await function.dma_write(address, bytes.fromhex(data))
        except DmaRefused as refused:
            return refused.number
        return 0

    async def _dma_read(self, function: Function, address: int, length: int) -> list[Any]:
        """Read by DMA. Returns the errno, and the bytes in hex."""
        try:
            return [0, (await function.dma_read(address, length)).hex()]
        except DmaRefused as refused:
            return [refused.number, ""]

    async def _memory(self, function: Function, bar: int, offset: int, length: int) -> str:
        """Return what the device itself has in the memory of a BAR."""
        return bytes(function.model.memory[bar][offset : offset + length]).hex()

    async def _disconnect(self, function: Function) -> None:
        function.disconnect()

    async def _read(self, function: Function, region: int, offsets: list[int], times: int) -> list[list[str]]:
        """Read dwords of a region, past QEMU. Returns the different answers for each offset, in hex."""
        return [sorted({function.read(region, each, 4).hex() for _ in range(times)}) for each in offsets]

    async def _write(self, function: Function, bar: int, offset: int, data: str) -> None:
        """Write to a BAR, past QEMU."""
        function.model.write(bar, offset, bytes.fromhex(data))

    async def _interrupt(self, function: Function, vector: int) -> None:
        function.interrupt(vector)

    async def _start_series(self, function: Function, address: int, first: int, modulo: int, every_s: float) -> None:
        """Write dwords to ``address`` until ``stop_series``: ``first``, ``first + 1``... modulo ``modulo``."""
        stop = asyncio.Event()

        async def write() -> None:
            number = first
            while not stop.is_set():
                await self._dma_write(function, address, (number % modulo).to_bytes(4, "little").hex())
                number += 1
                await asyncio.sleep(every_s)

        self._series[function] = stop, asyncio.get_running_loop().create_task(write())

    async def _stop_series(self, function: Function) -> None:
        """End the series once its last write has ended."""
        stop, writing = self._series.pop(function)
        stop.set()
        await writing

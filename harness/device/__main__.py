# SPDX-License-Identifier: GPL-2.0-only
"""The server: ``python -m harness.device FD SPECS``, one process for the devices of a machine.

``FD`` is a connected socket, ``SPECS`` a JSON list of ``harness.device.spec.Spec``. The server listens on each device's
own socket and sends ``{"ready": true}`` through FD. It then takes the commands of ``harness.device.control`` from FD,
and ends when FD does. With ``-`` for FD it takes no commands, and runs until it is killed.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

from harness.device.control import Control
from harness.device.function import Function
from harness.device.link import Link
from harness.device.log import Log
from harness.device.models import find
from harness.device.spec import Spec

LONGEST_COMMAND = 16 << 20
"""Bytes of one line of control."""


async def serve(control_fd: int | None, specs: list[Spec]) -> None:
    """Serve the devices until the control connection ends; for ever without one."""
    functions = {spec.id: _make(spec) for spec in specs}
    loop = asyncio.get_running_loop()
    listeners = [_listen(spec.socket) for spec in specs]
    accepting = [
        loop.create_task(_accept(listener, functions[spec.id])) for listener, spec in zip(listeners, specs, strict=True)
    ]
    if control_fd is None:
        await asyncio.gather(*accepting)
        return
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=control_fd), limit=LONGEST_COMMAND)

    def answer(reply: dict[str, Any]) -> None:
        writer.write(json.dumps(reply).encode() + b"\n")

    control = Control(functions, answer)
    answer({"ready": True})
    while line := await reader.readline():
        control.line(line.decode())
    for task in accepting:
        task.cancel()


def _make(spec: Spec) -> Function:
    model = find(spec.model)
    return Function(spec.config_space(), Log(Path(spec.log)), lambda port: model(port, spec.drive_path))


def _listen(path: str) -> socket.socket:
    """Listen on a socket. Once ``path`` exists, a connection to it succeeds."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    unready = f"{path}.new"
    listener.bind(unready)
    listener.listen()
    Path(unready).rename(path)
    return listener


async def _accept(listener: socket.socket, function: Function) -> None:
    """Serve one connection after the other: a device that is plugged in again connects anew."""
    loop = asyncio.get_running_loop()
    while True:
        peer, _ = await loop.sock_accept(listener)
        ended = asyncio.Event()

        def on_end(why: str, ended: asyncio.Event = ended) -> None:
            function.disconnected(why)
            ended.set()

        link = Link(peer, function.on_command, on_end)
        function.connect(link)
        await ended.wait()


if __name__ == "__main__":
    control = None if sys.argv[1] == "-" else int(sys.argv[1])
    asyncio.run(serve(control, [Spec.of(values) for values in json.loads(sys.argv[2])]))

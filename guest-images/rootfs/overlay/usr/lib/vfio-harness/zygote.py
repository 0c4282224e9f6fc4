# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter that becomes the guest agent, started by init so that no session waits for it.

Its standard input is a listening Unix socket. Each connection (/usr/lib/vfio-harness/agent, run over SSH) hands over
three streams; a child takes them as its own 0, 1 and 2, and runs what they bring: a line with a decimal byte count,
then that many bytes of a zip application. The rest of the streams is the application's channel to the host.
"""

# Imported here, in parallel with the boot, so that a session need not: what an agent is likely to use.
import ctypes  # noqa: F401
import dataclasses  # noqa: F401
import errno  # noqa: F401
import fcntl  # noqa: F401
import gc
import json  # noqa: F401
import mmap  # noqa: F401
import os
import runpy
import select  # noqa: F401
import signal
import socket
import struct  # noqa: F401
import sys
import threading  # noqa: F401
import traceback

LENGTH_LIMIT = 16 << 20


def receive() -> bytes:
    """The application, from standard input, and not one byte more."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > 20:
            raise SystemExit(f"agent: no byte count on the channel, but {line!r}")
        line += byte
    missing = int(line)
    if not 0 < missing <= LENGTH_LIMIT:
        raise SystemExit(f"agent: byte count {missing} is not within 1..{LENGTH_LIMIT}")
    parts = []
    while missing:
        part = os.read(0, missing)
        if not part:
            raise SystemExit(f"agent: the channel ended {missing} bytes too early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def serve(connection: socket.socket, streams: list[int]) -> int:
    """Be the agent; returns its exit status."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    path = f"/run/agent-{os.getpid()}.zip"
    try:
        with open(path, "wb") as file:
            file.write(receive())
        sys.argv = [path]
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Fork an agent for each connection, for ever."""
    sys.path.append("/usr/lib/python3/dist-packages")  # pyverbs; -S leaves it out
    server = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    gc.freeze()  # pages of what is loaded stay shared
    while True:
        connection, _ = server.accept()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        if os.fork() == 0:
            server.close()
            status = 1
            try:
                status = serve(connection, streams)
                sys.stdout.flush()
            finally:
                connection.send(bytes([status & 0xFF]))
                os._exit(status)
        for stream in streams:
            os.close(stream)
        connection.close()


main()

# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter that becomes the guest agent. init starts it during the boot, so that no session waits for it.

Its standard input is a listening Unix socket. Each connection (/usr/lib/vfio-harness/agent, run over SSH) passes three
file descriptors. A forked child makes them its descriptors 0, 1 and 2, and reads from them a line with a decimal byte
count, then that many bytes of a zip application. It runs the application, which uses the streams to talk to the host.
"""

import _socket  # the compiled half of socket; the Python half costs 20 ms to load
import gc
import os
import select
import sys
import zipimport

# The agent's imports, most needed first. They are loaded until the first connection comes.
PRELOAD = (
    *("json", "threading", "typing", "binascii", "contextlib"),
    *("struct", "ctypes", "fcntl", "mmap"),
)
STREAMS = 3
INT_SIZE = 4  # bytes
LENGTH_LIMIT = 16 << 20  # bytes


def receive() -> bytes:
    """Read the application from standard input, and not one byte more."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte or len(line) > 20:
            raise SystemExit(f"agent: expected a byte count on the channel, got {line!r}")
        line += byte
    missing = int(line)
    if not 0 < missing <= LENGTH_LIMIT:
        raise SystemExit(f"agent: byte count {missing} is not in 1..{LENGTH_LIMIT}")
    parts = []
    while missing:
        part = os.read(0, missing)
        if not part:
            raise SystemExit(f"agent: the channel ended {missing} bytes too early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def take_over(streams: list[int]) -> None:
    """Make the streams this process's own, in a new session."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # New objects: the old ones were made for the log, a file that can seek.
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def run(streams: list[int]) -> int:
    """Run the agent. Returns its exit status."""
    try:
        take_over(streams)
        path = f"/run/agent-{os.getpid()}.zip"
        with open(path, "wb") as file:  # noqa: PTH123 - pathlib costs 40 ms here
            file.write(receive())
        sys.argv = [path]
        sys.path.insert(0, path)
        exec(zipimport.zipimporter(path).get_code("__main__"), {"__name__": "__main__"})
        sys.stdout.flush()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def reap() -> None:
    """Reap the agents that have exited."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def accept(server: _socket.socket) -> tuple[_socket.socket, list[int]]:
    """Accept a connection. Returns it and the descriptors that it passes."""
    number, _ = server._accept()
    connection = _socket.socket(fileno=number)
    _, control, _, _ = connection.recvmsg(1, _socket.CMSG_SPACE(STREAMS * INT_SIZE))
    return connection, [
        int.from_bytes(data[i : i + INT_SIZE], sys.byteorder)
        for _, _, data in control
        for i in range(0, len(data), INT_SIZE)
    ]


def main() -> None:
    """Fork an agent for each connection; never returns."""
    gc.disable()  # the preloaded modules are never freed
    sys.path.append("/usr/lib/python3/dist-packages")  # for pyverbs, since -S leaves it out
    server = _socket.socket(fileno=os.dup(0))
    for name in PRELOAD:
        if select.select([server], [], [], 0)[0]:
            break
        __import__(name)
    gc.freeze()  # so that children share the pages of these modules
    while True:
        connection, streams = accept(server)
        reap()
        if len(streams) == STREAMS and os.fork() == 0:
            server.close()
            gc.enable()
            status = run(streams)
            connection.send(bytes([status & 0xFF]))
            os._exit(status)
        for stream in streams:
            os.close(stream)
        connection.close()


main()

# SPDX-License-Identifier: GPL-2.0-only
"""Processes forked from the agent. Each has a copy of every fd of the agent, and serves requests as the agent does."""

import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from . import files
from .dmabuf import DmaBuf
from .poll import poll, wait_for
from .resource import File, Resource

EXIT_SECONDS = 10.0
NOBODY = 65534
FILE_MAX = "/proc/sys/fs/file-max"

Serve = Callable[[BinaryIO, BinaryIO], None]
"""Answers the requests of the first file on the second, until the first ends."""

_parent: list[socket.socket] = []
"""In a forked process: its end of the socket that passes fds."""


class Process(Resource):
    """A forked process. ``close`` kills it, and so closes its fds."""

    def __init__(self, serve: Serve) -> None:
        super().__init__()
        self._requests, requests = socket.socketpair()
        self._fds, fds = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            self._requests.close()
            self._fds.close()
            _parent[:] = [fds]
            _run(serve, requests)
        requests.close()
        fds.close()
        self._asking = threading.Lock()
        self._replies = self._requests.makefile("rb")
        self._exited = False
        for each in (self._requests, self._fds, self._replies):
            self._undo.callback(each.close)
        self._undo.callback(self._end)

    def ask(self, line: bytes) -> bytes:
        """Send one request and return the reply; b"" if the process ended first."""
        with self._asking, suppress(BrokenPipeError, ConnectionResetError):
            self._requests.sendall(line)
            return self._replies.readline()
        return b""

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)

    def ended(self, seconds: float) -> bool:
        """Return whether the process exits within ``seconds``. Its fds are closed then."""
        return poll(self._reap, seconds)

    def _reap(self) -> bool:
        if not self._exited:
            self._exited = os.waitpid(self._pid, os.WNOHANG)[0] == self._pid
        return self._exited

    def _end(self) -> None:
        if not self._reap():
            self.kill()
            wait_for(self._reap, EXIT_SECONDS, "exit of a killed process")

    def send(self, file: File) -> None:
        """Send a copy of a file's fd to the process (SCM_RIGHTS). The process never receives it: it stays in flight."""
        _send(self._fds, file)

    def receive_dmabuf(self) -> DmaBuf:
        """Receive the dma-buf that the process sent with ``processes.send``."""
        _, fds, _, _ = socket.recv_fds(self._fds, 1, 1)
        return DmaBuf(fds[0])


def drop_privileges() -> None:
    """In a forked process: become an ordinary user, without capabilities."""
    os.setresuid(NOBODY, NOBODY, NOBODY)


def set_file_limit(limit: int) -> int:
    """Set fs.file-max, which binds processes without CAP_SYS_ADMIN. Returns the limit before."""
    before = int(files.read_text(FILE_MAX))
    files.write(FILE_MAX, str(limit))
    return before


def send(file: File) -> None:
    """In a forked process: send a copy of a file's fd to the agent."""
    _send(_parent[0], file)


def _send(through: socket.socket, file: File) -> None:
    socket.send_fds(through, [b"."], [file.fd])


def _run(serve: Serve, requests: socket.socket) -> None:
    """Run the forked process. Never returns: os._exit() skips Python's cleanup, which belongs to the agent."""
    try:
        with requests.makefile("rb") as lines, requests.makefile("wb") as replies:
            serve(lines, replies)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)

# SPDX-License-Identifier: GPL-2.0-only
"""The connection of one device to QEMU: receives commands, sends replies and the device's own commands.

A raw socket, since asyncio's streams do not receive file descriptors.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from harness.device.protocol import Framing, Message, ProtocolError

RECEIVE_BYTES = 1 << 16
MAX_FDS = 64


class Link:
    """One connection. ``on_command`` is called for each command, and ``on_end`` once, with the reason."""

    def __init__(
        self, peer: socket.socket, on_command: Callable[["Link", Message], None], on_end: Callable[[str], None]
    ) -> None:
        peer.setblocking(False)
        self._peer = peer
        self._on_command = on_command
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._framing = Framing()
        self._unsent = bytearray()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._number = 0
        self.fds: list[int] = []
        """The descriptors that came and that no command has taken yet."""
        self._loop.add_reader(peer, self._receive)

    def _receive(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._peer, RECEIVE_BYTES, MAX_FDS)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        self.fds += fds
        if not data:
            self.close("QEMU closed the connection")
            return
        try:
            for message in self._framing.feed(data):
                self._dispatch(message)
        except ProtocolError as error:
            self.close(str(error))

    def _dispatch(self, message: Message) -> None:
        if not message.is_reply:
            self._on_command(self, message)
            return
        waiting = self._waiting.pop(message.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def send(self, message: Message) -> None:
        """Send a message, in the order of the calls. Nothing happens once the connection has ended."""
        if self._peer.fileno() < 0:
            return
        self._unsent += message.encode()
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._peer.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(str(error))
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._peer, self._flush)
        else:
            self._loop.remove_writer(self._peer)

    async def request(self, command: int, body: bytes) -> Message:
        """Send a command to QEMU and return its reply. Raises ConnectionError if the connection ends first."""
        if self._peer.fileno() < 0:
            raise ConnectionError("the connection has ended")
        self._number = (self._number + 1) & 0xFFFF
        waiting = self._waiting[self._number] = self._loop.create_future()
        self.send(Message(self._number, command, body))
        reply: Message = await waiting
        return reply

    def close(self, why: str) -> None:
        """End the connection. A second call does nothing."""
        if self._peer.fileno() < 0:
            return
        self._loop.remove_reader(self._peer)
        self._loop.remove_writer(self._peer)
        self._peer.close()
        for fd in self.fds:
            with suppress(OSError):
                os.close(fd)
        self.fds.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(why))
        self._waiting.clear()
        self._on_end(why)

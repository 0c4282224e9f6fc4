# SPDX-License-Identifier: GPL-2.0-only
"""A client of vfio-user for the tests: it does what QEMU does, over a real socket, and serves the device's DMA."""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from harness.device import protocol
from harness.device.protocol import Command, Framing, Message

DEADLINE_S = 10.0
ENODEV = 19


@dataclass
class Memory:
    """What the IOMMU lets the device reach: pieces of memory by address. All else is refused."""

    pieces: dict[int, bytearray] = field(default_factory=dict)

    def at(self, address: int, length: int) -> tuple[bytearray, int] | None:
        """Return the piece that has these bytes, and where they are in it."""
        for start, piece in self.pieces.items():
            if start <= address and address + length <= start + len(piece):
                return piece, address - start
        return None


class Client:
    """A connection to one device."""

    def __init__(self, path: Path) -> None:
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._peer.settimeout(DEADLINE_S)
        self._peer.connect(str(path))
        self._framing = Framing()
        self._arrived: list[Message] = []
        self._number = 0
        self.memory = Memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._peer.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._peer.sendall(data)

    def ended(self) -> bool:
        """Return whether the server closes the connection."""
        return not self._peer.recv(1)

    def post(self, command: int, body: bytes = b"", *, flags: int = 0, fds: tuple[int, ...] = ()) -> int:
        """Send a command, and return its number."""
        self._number += 1
        socket.send_fds(self._peer, [Message(self._number, command, body, flags).encode()], list(fds))
        return self._number

    def request(self, command: int, body: bytes = b"", *, fds: tuple[int, ...] = ()) -> Message:
        """Send a command, serve DMA meanwhile, and return the reply."""
        return self.reply_to(self.post(command, body, fds=fds))

    def reply_to(self, number: int) -> Message:
        """Return the reply to a command that was posted."""
        return self._wait(lambda message: message.is_reply and message.id == number)

    def serve_until(self, happened: Callable[[], bool]) -> None:
        """Serve the device's DMA until ``happened``, which is asked after each message and every 10 ms."""
        deadline = time.monotonic() + DEADLINE_S
        self._peer.settimeout(0.01)
        try:
            while not happened():
                assert time.monotonic() < deadline
                try:
                    self._receive()
                except TimeoutError:
                    continue
        finally:
            self._peer.settimeout(DEADLINE_S)

    def _wait(self, wanted: Callable[[Message], bool]) -> Message:
        while True:
            for message in self._arrived:
                if wanted(message):
                    self._arrived.remove(message)
                    return message
            self._receive()

    def _receive(self) -> None:
        data = self._peer.recv(1 << 16)
        assert data, "the server closed the connection"
        for message in self._framing.feed(data):
            if message.is_reply:
                self._arrived.append(message)
            else:
                self._peer.sendall(self._dma(message).encode())

    def _dma(self, message: Message) -> Message:
        address, length = message.unpack(protocol.DMA_ACCESS)
        found = self.memory.at(address, length)
        if found is None:
            return message.failure(ENODEV)
        piece, at = found
        if message.command == Command.DMA_WRITE:
            piece[at : at + length] = message.body[protocol.DMA_ACCESS.size :]
            return message.reply(message.body[: protocol.DMA_ACCESS.size])
        return message.reply(message.body + bytes(piece[at : at + length]))

    # What QEMU does with a device

    def read(self, region: int, offset: int, length: int) -> bytes:
        """Read a region."""
        reply = self.request(Command.REGION_READ, protocol.REGION_ACCESS.pack(offset, region, length))
        assert not reply.flags & protocol.ERROR, reply
        return reply.body[protocol.REGION_ACCESS.size :]

    def post_write(self, region: int, offset: int, data: bytes) -> int:
        """Begin a write of a region."""
        return self.post(Command.REGION_WRITE, protocol.REGION_ACCESS.pack(offset, region, len(data)) + data)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region."""
        reply = self.reply_to(self.post_write(region, offset, data))
        assert not reply.flags & protocol.ERROR, reply

    def write32(self, region: int, offset: int, value: int) -> None:
        """Write a dword of a region."""
        self.write(region, offset, struct.pack("<I", value))

    def read32(self, region: int, offset: int) -> int:
        """Read a dword of a region."""
        return int(struct.unpack("<I", self.read(region, offset, 4))[0])

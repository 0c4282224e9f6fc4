# SPDX-License-Identifier: GPL-2.0-only
"""The vfio-user protocol, version 0.0: messages as bytes. Source: QEMU's docs/interop/vfio-user.rst."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

HEADER = struct.Struct("<HHIII")
"""Message id, command, size with the header, flags, errno."""
TYPE, REPLY, NO_REPLY, ERROR = 0xF, 0x1, 0x10, 0x20
"""Of the flags: the mask of the type, and its value for a reply; no reply is wanted; the command failed."""
MAX_SIZE = (1 << 20) + 4096
"""The largest message: max_data_xfer_size, which defaults to 1 MiB, and headers."""

CONFIG_REGION, REGIONS = 7, 9
"""VFIO_PCI_CONFIG_REGION_INDEX and VFIO_PCI_NUM_REGIONS (include/uapi/linux/vfio.h). Regions 0 to 5 are BARs."""
MSIX_IRQ, IRQS = 2, 5
"""VFIO_PCI_MSIX_IRQ_INDEX and VFIO_PCI_NUM_IRQS."""

DEVICE_INFO = struct.Struct("<IIII")
"""argsz, flags, regions, interrupt types."""
DEVICE_FLAGS_RESET, DEVICE_FLAGS_PCI = 1, 2
REGION_INFO = struct.Struct("<IIIIQQ")
"""argsz, flags, index, offset of the first capability, size, offset."""
REGION_READ_WRITE = 0x3
"""VFIO_REGION_INFO_FLAG_READ and _WRITE."""
IRQ_INFO = struct.Struct("<IIII")
"""argsz, flags, index, count."""
IRQ_INFO_EVENTFD, IRQ_INFO_NORESIZE = 0x1, 0x8
IRQ_SET = struct.Struct("<IIIII")
"""argsz, flags, index, start, count."""
IRQ_SET_DATA_NONE, IRQ_SET_DATA_EVENTFD, IRQ_SET_ACTION_TRIGGER = 0x1, 0x4, 0x20
REGION_ACCESS = struct.Struct("<QII")
"""offset, region, count; the data follow."""
DMA_ACCESS = struct.Struct("<QQ")
"""address, count; the data follow. Older sources of QEMU have a count of 32 bits; 11.1.3 has 64, as the document."""
DMA_MAP = struct.Struct("<IIQQQ")
"""argsz, flags, offset in the file, address, size."""
DMA_UNMAP = struct.Struct("<IIQQ")
"""argsz, flags, address, size."""
VERSION = struct.Struct("<HH")
"""major, minor; JSON with a NUL follows."""


class Command(IntEnum):
    """VFIO_USER_*."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13


class ProtocolError(Exception):
    """The peer does not speak vfio-user."""


@dataclass(frozen=True)
class Message:
    """One message."""

    id: int
    command: int
    body: bytes = b""
    flags: int = 0
    error: int = 0
    """The errno of a reply with ERROR."""

    @property
    def is_reply(self) -> bool:
        return self.flags & TYPE == REPLY

    @property
    def wants_reply(self) -> bool:
        return not self.flags & NO_REPLY

    def encode(self) -> bytes:
        """Return its bytes."""
        return HEADER.pack(self.id, self.command, HEADER.size + len(self.body), self.flags, self.error) + self.body

    def reply(self, body: bytes = b"") -> "Message":
        """Return the reply to this command."""
        return Message(self.id, self.command, body, REPLY)

    def failure(self, number: int) -> "Message":
        """Return the reply that the command failed with errno ``number``."""
        return Message(self.id, self.command, b"", REPLY | ERROR, number)

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Return the fields at the start of the body. Raises ProtocolError if it is too short."""
        if len(self.body) < layout.size:
            raise ProtocolError(f"command {self.command} has {len(self.body)} bytes, and needs {layout.size}")
        return layout.unpack_from(self.body)


@dataclass
class Framing:
    """Cuts a stream of bytes into messages."""

    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with ``data``. Raises ProtocolError for a size that cannot be."""
        self._pending += data
        while len(self._pending) >= HEADER.size:
            number, command, size, flags, error = HEADER.unpack_from(self._pending)
            if not HEADER.size <= size <= MAX_SIZE:
                raise ProtocolError(f"command {command} claims a size of {size} bytes")
            if len(self._pending) < size:
                return
            body = bytes(self._pending[HEADER.size : size])
            del self._pending[:size]
            yield Message(number, command, body, flags, error)

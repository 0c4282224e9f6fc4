# SPDX-License-Identifier: GPL-2.0-only
"""Part of a BAR, mapped. Each load and store is one access of the given width."""

import ctypes
import mmap

from .kernel import named
from .resource import Resource

WORDS: dict[int, type[ctypes.c_uint8 | ctypes.c_uint16 | ctypes.c_uint32 | ctypes.c_uint64]] = {
    1: ctypes.c_uint8,
    2: ctypes.c_uint16,
    4: ctypes.c_uint32,
    8: ctypes.c_uint64,
}


class Mapping(Resource):
    """``length`` bytes of a device's fd from ``offset``, both page aligned.

    An access while COMMAND.MEM is clear kills the agent (SIGBUS). Use the device's ``read`` and ``write`` then.
    """

    def __init__(self, fd: int, offset: int, length: int) -> None:
        super().__init__()
        with named("mmap vfio region"):
            self._memory = mmap.mmap(fd, length, offset=offset)
        self._undo.callback(self._memory.close)

    def load(self, offset: int, width: int) -> int:
        """Read ``width`` (1, 2, 4, 8) bytes at ``offset``, naturally aligned."""
        return int(WORDS[width].from_buffer(self._memory, offset).value)

    def store(self, offset: int, width: int, value: int) -> None:
        """Write ``width`` (1, 2, 4, 8) bytes at ``offset``, naturally aligned."""
        WORDS[width].from_buffer(self._memory, offset).value = value

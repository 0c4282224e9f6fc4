# SPDX-License-Identifier: GPL-2.0-only
"""Fences in user space: sync files (drivers/dma-buf/sync_file.c), and sw_sync, which makes and signals fences."""

import select
import struct

from .kernel import ioctl, open_file
from .resource import File
from .uapi import sync as uapi

SW_SYNC = "/sys/kernel/debug/sync/sw_sync"


def ready(fd: int, events: int, milliseconds: int) -> int:
    """Return those of ``events`` (``select.POLLIN``, ``POLLOUT``) that poll(2) reports within ``milliseconds``."""
    poller = select.poll()
    poller.register(fd, events)
    return sum(found for _, found in poller.poll(milliseconds))


class SyncFile(File):
    """A sync file: one or more fences."""

    def signalled(self, milliseconds: int = 0) -> bool:
        """Return whether all fences are signalled within ``milliseconds``."""
        return bool(ready(self.fd, select.POLLIN, milliseconds))


class Timeline(File):
    """A counter that signals the fences made of it (CONFIG_SW_SYNC). ``close`` signals the rest."""

    def __init__(self) -> None:
        super().__init__(open_file(SW_SYNC))

    def fence(self, value: int = 1) -> SyncFile:
        """Make a fence that is signalled once the counter reaches ``value``."""
        request = uapi.CreateFence(value=value, name=b"vfio-harness")
        ioctl(self.fd, uapi.SW_SYNC_IOC_CREATE_FENCE, request)
        return SyncFile(request.fence)

    def advance(self) -> None:
        """Add 1 to the counter, which begins at 0."""
        ioctl(self.fd, uapi.SW_SYNC_IOC_INC, bytearray(struct.pack("<I", 1)))

# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_DEVICE_FEATURE as a hostile or a starved process asks: memory that ends early, no free fd, no kernel memory.

An outcome is ``-errno``, or the size of what was exported (which is closed at once), or 0 where nothing was.
"""

import ctypes
import mmap
import os
import resource as limits
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .failslab import each_failing
from .kernel import forbid, ioctl_at, load_module
from .pci import DEVICES, bind
from .uapi import vfio as uapi
from .vfio import Node


def request(device: Node, requests: list[tuple[bytes, int | None]], times: int = 1) -> list[int]:
    """The outcomes of ``requests``, each asked ``times`` times, of which the last counts.

    A request is the header, the payload, and how many bytes of both can be read (None: all).
    """
    outcomes = []
    with _guarded(max(len(data) for data, _ in requests)) as place:
        for data, readable in requests:
            address = place(data[:readable])
            outcomes += [_request(device, address) for _ in range(times)][-1:]
    return outcomes


def request_without_fds(device: Node, data: bytes) -> int:
    """The outcome while this process may open no more files."""
    free = os.dup(device.fd)
    os.close(free)
    soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    with _guarded(len(data)) as place:
        address = place(data)
        limits.setrlimit(limits.RLIMIT_NOFILE, (free, hard))
        try:
            return _request(device, address)
        finally:
            limits.setrlimit(limits.RLIMIT_NOFILE, (soft, hard))


def request_without_memory(device: Node, data: bytes) -> list[int]:
    """The outcomes with the first, second... allocation of the call failing; the last is that where none is left to."""
    with _guarded(len(data)) as place:
        address = place(data)
        return each_failing(lambda: _request(device, address))


def bind_variant(bdf: str, driver: str) -> None:
    """Bind the device to the vfio driver of that name, which is its module's name as well."""
    load_module(driver)
    bind(bdf, driver)


def bars(bdf: str) -> list[list[int]]:
    """Start, size and ``IORESOURCE_`` flags of BAR 0 to 5; size 0 if absent (drivers/pci/pci-sysfs.c)."""
    rows = [[int(word, 16) for word in line.split()] for line in (DEVICES / bdf / "resource").read_text().splitlines()]
    return [[start, end - start + 1 if flags else 0, flags] for start, end, flags in rows[:6]]


def slab() -> int:
    """Bytes of kernel memory that nothing can reclaim."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("SUnreclaim:"))


def _request(device: Node, address: int) -> int:
    try:
        fd = ioctl_at(device.fd, uapi.VFIO_DEVICE_FEATURE, address)
    except OSError as exc:
        return -int(exc.errno or 0)
    if not fd:
        return 0
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


@contextmanager
def _guarded(length: int) -> Iterator[Callable[[bytes], int]]:
    """Memory for up to ``length`` bytes, behind which nothing can be read. Yields what puts bytes right before that
    edge and tells their address."""
    room = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(-1, room + mmap.PAGESIZE) as memory:
        anchor = ctypes.c_char.from_buffer(memory)
        edge = ctypes.addressof(anchor) + room
        del anchor  # a live export would keep the mmap from closing
        forbid(edge, mmap.PAGESIZE)

        def place(data: bytes) -> int:
            ctypes.memmove(edge - len(data), data, len(data))
            return edge - len(data)

        yield place

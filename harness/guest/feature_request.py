# SPDX-License-Identifier: GPL-2.0-only
"""Raw VFIO_DEVICE_FEATURE calls, also with memory that ends early, without a free fd, and without kernel memory.

An outcome is ``-errno``, or the size of the exported buffer in bytes, or 0 if nothing was exported. The buffer is
closed at once.
"""

import ctypes
import mmap
import os
import resource as limits
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import files
from .fail_nth import each_failing
from .kernel import forbid, ioctl_at, load_module
from .pci import DEVICES, bind
from .uapi import vfio as uapi
from .vfio import Node


def request(device: Node, requests: list[tuple[bytes, int | None]], times: int = 1) -> list[int]:
    """Send each request ``times`` times. Returns each one's last outcome.

    A request is header and payload, and how many bytes of them are readable (None: all).
    """
    outcomes = []
    with _guarded(max(len(data) for data, _ in requests)) as put:
        for data, readable in requests:
            address = put(data[:readable])
            outcomes += [_request(device, address) for _ in range(times)][-1:]
    return outcomes


def request_without_fds(device: Node, data: bytes) -> int:
    """Send a request while this process may open no more files. Returns the outcome."""
    free = os.dup(device.fd)
    os.close(free)
    soft, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    with _guarded(len(data)) as put:
        address = put(data)
        limits.setrlimit(limits.RLIMIT_NOFILE, (free, hard))
        try:
            return _request(device, address)
        finally:
            limits.setrlimit(limits.RLIMIT_NOFILE, (soft, hard))


def request_without_memory(device: Node, data: bytes) -> list[int]:
    """Fail the call's first allocation, then its second, and so on.

    Returns each outcome; in the last one no allocation failed.
    """
    with _guarded(len(data)) as put:
        address = put(data)
        return each_failing(lambda: _request(device, address))


def bind_variant(bdf: str, driver: str) -> None:
    """Load the vfio driver ``driver``, whose module has the same name, and bind the device to it."""
    load_module(driver)
    bind(bdf, driver)


def bars(bdf: str) -> list[list[int]]:
    """Return start, size and ``IORESOURCE_`` flags of BAR 0 to 5; size 0 if absent (drivers/pci/pci-sysfs.c)."""
    lines = files.read_text(f"{DEVICES}/{bdf}/resource").splitlines()
    rows = [[int(word, 16) for word in line.split()] for line in lines]
    return [[start, end - start + 1 if flags else 0, flags] for start, end, flags in rows[:6]]


def slab() -> int:
    """Return the kernel's unreclaimable slab memory in bytes."""
    lines = files.read_text("/proc/meminfo").splitlines()
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
    """Allocate memory for up to ``length`` bytes, followed by an inaccessible page.

    Yields a function that copies bytes to the end of the memory and returns their address.
    """
    room = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(-1, room + mmap.PAGESIZE) as memory:
        anchor = ctypes.c_char.from_buffer(memory)
        edge = ctypes.addressof(anchor) + room
        del anchor  # a live export would keep the mmap from closing
        forbid(edge, mmap.PAGESIZE)

        def put(data: bytes) -> int:
            ctypes.memmove(edge - len(data), data, len(data))
            return edge - len(data)

        yield put

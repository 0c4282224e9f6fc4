# SPDX-License-Identifier: GPL-2.0-only
"""Calls to the kernel: C structures, ioctl numbers, and errors that name the call."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .fail_nth import acting
from .poll import poll

LOAD_SECONDS = 20
UNLOAD_SECONDS = 5.0
"""For what a driver releases on work queues after its last device is unbound."""


class Struct(ctypes.LittleEndianStructure):
    """A structure of the uAPI. ``ARGSZ``: the member that holds the structure's own size; the constructor sets it."""

    ARGSZ = ""

    def __init__(self, **members: object) -> None:
        if self.ARGSZ:
            members.setdefault(self.ARGSZ, ctypes.sizeof(self))
        super().__init__(**members)

    def as_dict(self) -> dict[str, int]:
        """Return the members by name, without reserved ones."""
        return {name: getattr(self, name) for name, *_ in self._fields_ if not name.startswith("_")}


class Ioctl(NamedTuple):
    """An ioctl's number, and its name for errors."""

    name: str
    number: int


def io(letter: str, number: int) -> int:
    """Encode ``_IO``: no direction and no size (include/uapi/asm-generic/ioctl.h)."""
    return ord(letter) << 8 | number


def ior(letter: str, number: int, size: int) -> int:
    """Encode ``_IOR``: the kernel writes ``size`` bytes."""
    return 2 << 30 | size << 16 | io(letter, number)


def iow(letter: str, number: int, size: int) -> int:
    """Encode ``_IOW``: the kernel reads ``size`` bytes."""
    return 1 << 30 | size << 16 | io(letter, number)


def iowr(letter: str, number: int, size: int) -> int:
    """Encode ``_IOWR``: the kernel reads and writes ``size`` bytes."""
    return 3 << 30 | size << 16 | io(letter, number)


@contextmanager
def named(call: str) -> Iterator[None]:
    """Add the name ``call`` to an OSError that the block raises."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, call) from None


def ioctl(fd: int, request: Ioctl, arg: Struct | bytearray | int = 0) -> int:
    """Call an ioctl. Returns its value and updates ``arg`` in place. Other threads run while it blocks."""
    with named(request.name):
        return acting(request.name, lambda: fcntl.ioctl(fd, request.number, arg))


_libc = ctypes.CDLL(None, use_errno=True)


def ioctl_at(fd: int, request: Ioctl, address: int) -> int:
    """Call an ioctl whose argument is at ``address``, which need not be readable. Returns its value."""
    value = int(_libc.ioctl(fd, ctypes.c_ulong(request.number), ctypes.c_void_p(address)))
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), request.name)
    return value


def forbid(address: int, length: int) -> None:
    """Make whole pages of this process inaccessible (mprotect PROT_NONE)."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), 0):
        raise OSError(ctypes.get_errno(), "", "mprotect")


def load_module(name: str) -> None:
    """Load a module that the boot does not load. Raises LookupError with modprobe's message."""
    import subprocess  # noqa: PLC0415 - costs the emulated guest 0.1 s, for which its start need not wait

    done = subprocess.run(["modprobe", name], capture_output=True, text=True, timeout=LOAD_SECONDS, check=False)
    if done.returncode:
        raise LookupError(f"modprobe {name}: {done.stderr.strip()}")


def remove_module(name: str) -> None:
    """Unload a module (delete_module(2)). Raises EAGAIN if it stays in use."""
    refused = 0

    def removed() -> bool:
        nonlocal refused
        refused = ctypes.get_errno() if _libc.delete_module(name.encode(), os.O_NONBLOCK) else 0
        return refused != errno.EAGAIN

    poll(removed, UNLOAD_SECONDS)
    if refused:
        raise OSError(refused, os.strerror(refused), f"delete_module {name}")


def close_file(fd: int, what: str) -> None:
    """Close an fd whose last close acts. ``what`` names its kind, e.g. ``dma-buf``."""
    acting(f"close {what}", lambda: os.close(fd))


def open_file(path: str, flags: int = os.O_RDWR) -> int:
    """Open ``path`` close-on-exec. An error names the path."""
    with named(f"open {path}"):
        return os.open(path, flags | os.O_CLOEXEC)

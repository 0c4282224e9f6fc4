# SPDX-License-Identifier: GPL-2.0-only
"""Read the kernel's log (Documentation/ABI/testing/dev-kmsg)."""

import os

from .kernel import named, open_file
from .resource import File

KMSG = "/dev/kmsg"
RECORD = 8192
"""Bytes of a record and its dictionary at most: PRINTK_MESSAGE_MAX in kernel/printk/internal.h is 2048."""


class KernelLog(File):
    """The kernel's log from now on."""

    KIND = "kernel log"

    def __init__(self) -> None:
        super().__init__(open_file(KMSG, os.O_RDONLY | os.O_NONBLOCK))
        os.lseek(self.fd, 0, os.SEEK_END)

    def read(self) -> list[str]:
        """Return the messages since the last call. OSError EPIPE if the kernel has overwritten some of them."""
        return [message(record) for record in iter(self._record, b"")]

    def _record(self) -> bytes:
        try:
            with named(f"read {KMSG}"):
                return os.read(self.fd, RECORD)
        except BlockingIOError:
            return b""


def message(record: bytes) -> str:
    """Return the text of a record, ``level,sequence,time,flags[,...];text`` and lines of a dictionary."""
    _, _, text = record.decode(errors="replace").partition(";")
    return text.partition("\n")[0]

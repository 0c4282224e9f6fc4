# SPDX-License-Identifier: GPL-2.0-only
"""The file behind the persistent memory region of the controller under test.

QEMU maps it shared. So a DMA that has completed is in it, and no register of the guest is in between.
"""

from harness.cases.constants import UNDER_TEST
from harness.session import Session


def read(session: Session, offset: int, length: int) -> bytes:
    """Read ``length`` bytes at an offset of the region."""
    with session.machine.memory(UNDER_TEST).open("rb") as file:
        file.seek(offset)
        return file.read(length)


def write(session: Session, offset: int, data: bytes) -> None:
    """Write ``data`` at an offset of the region."""
    with session.machine.memory(UNDER_TEST).open("r+b") as file:
        file.seek(offset)
        file.write(data)

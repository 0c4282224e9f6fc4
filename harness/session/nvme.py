# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an NVMe controller driven from user space, whose doorbells are left for the case to ring."""

from dataclasses import dataclass
from typing import Any, cast

from harness.session.client import CALL_SECONDS, Agent
from harness.session.device import Device, DmaBuf
from harness.session.handle import Handle
from harness.session.wire import Ref

REGISTERS = 0  # BAR0
DOORBELL_PAGE = (0x1000, 0x1000)  # NVMe 1.4, section 3.1.16: the doorbells begin at 1000h


@dataclass(frozen=True)
class QueuedCommand:
    """A command that has an entry in submission queue ``qid``, and runs once ``tail`` is written to ``doorbell``.

    ``doorbell``: offset in BAR0. ``sqe``: the entry's 64 bytes, which lie (or are to be put) at ``offset`` of the CMB
    if the queue is there.
    """

    qid: int
    cid: int
    sqe: bytes
    offset: int
    doorbell: int
    tail: int


@dataclass(frozen=True)
class Completion:
    """``status`` 0 is success, else status code and type as in NVMe 1.4, figure 126; ``result`` is dword 0."""

    status: int
    result: int


@dataclass(frozen=True)
class Cmb:
    """A controller's memory buffer or persistent memory region: ``size`` bytes at ``offset`` of the BAR ``region``."""

    region: int
    offset: int
    size: int


class Nvme(Handle):
    """A controller with an admin queue of 64 entries, and up to 6 I/O queues. After a reset, ``start`` it again."""

    def __init__(self, agent: Agent, ref: Ref, device: Device) -> None:
        super().__init__(agent, ref)
        self.device = device

    def start(self) -> None:
        """Enable the controller with fresh queues; what was queued is forgotten."""
        self._call("start")

    def export_doorbells(self) -> DmaBuf:
        """Export the page of BAR0 that holds the doorbells."""
        return self.device.export(REGISTERS, [DOORBELL_PAGE])

    def cmb(self) -> Cmb:
        """Enable the controller memory buffer and say where it is."""
        return Cmb(**self._call("cmb"))

    def pmr(self) -> Cmb:
        """Enable the persistent memory region (config: ``memory``) and say where it is; its content survives resets."""
        return Cmb(**self._call("pmr"))

    def create_io_queue(self, qid: int = 1, *, cmb_offset: int | None = None) -> None:
        """Create an I/O queue pair, its submission queue (4 KiB) in the CMB at ``cmb_offset`` or in memory."""
        self._call("create_io_queue", qid=qid, cmb_offset=cmb_offset)

    def queue_identify(self) -> QueuedCommand:
        """Queue an Identify Controller on the admin queue (0); its data goes to ``data``. Rings nothing."""
        return _queued(self._call("submit_identify"))

    def queue_read(
        self, lba: int, blocks: int, *, qid: int = 1, cmb_offset: int | None = None, write_entry: bool = True
    ) -> QueuedCommand:
        """Queue a read of up to 4 KiB, into the CMB at ``cmb_offset`` or into ``data``. Rings nothing.

        Without ``write_entry`` the entry is left for the case to write.
        """
        return _queued(
            self._call("submit_read", qid=qid, lba=lba, blocks=blocks, cmb_offset=cmb_offset, write_entry=write_entry)
        )

    def ring(self, queued: QueuedCommand) -> None:
        """Ring the queued's doorbell from the guest's CPU."""
        self._call("ring", qid=queued.qid, tail=queued.tail)

    def completed(self, queued: QueuedCommand, timeout: float = 2.0) -> Completion | None:
        """The queued's completion, or None if none arrives within ``timeout`` seconds (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        found = self._call("completed", qid=queued.qid, cid=queued.cid, seconds=seconds, timeout=timeout + CALL_SECONDS)
        return Completion(**found) if found else None

    def data(self, length: int = 4096) -> bytes:
        """What commands without a ``cmb_offset`` have read, from its start; at most 4 KiB."""
        return cast(bytes, self._call("data", length=length))

    def block_size(self) -> int:
        """Bytes of a block of its namespace."""
        return cast(int, self._call("block_size"))


def _queued(fields: dict[str, Any]) -> QueuedCommand:
    return QueuedCommand(**fields)

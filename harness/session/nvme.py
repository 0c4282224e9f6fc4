# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an NVMe controller that the guest drives from user space. The case decides who rings its doorbells."""

import time
from dataclasses import dataclass
from typing import Any, cast

from harness.session.client import CALL_SECONDS, Caller
from harness.session.device import RESET_SECONDS, Device, DmaBuf
from harness.session.handle import Handle
from harness.session.wire import Ref

REGISTERS = 0
"""BAR0, which has the controller's registers."""
DOORBELL_PAGE = (0x1000, 0x1000)
"""Offset and length of the doorbells in BAR0 (NVMe 1.4, section 3.1.16)."""


@dataclass(frozen=True)
class QueuedCommand:
    """A command with an entry in submission queue ``qid``. Writing ``tail`` to ``doorbell`` makes it run."""

    qid: int
    cid: int
    """Command identifier."""
    sqe: bytes
    """The entry's 64 bytes."""
    offset: int
    """The entry's offset in the CMB, if the queue is there."""
    doorbell: int
    """Offset of the queue's doorbell in BAR0."""
    tail: int


@dataclass(frozen=True)
class Completion:
    """How a command ended."""

    status: int
    """0 for success, otherwise status code and type (NVMe 1.4, figure 126)."""
    result: int
    """Dword 0 of the completion."""


@dataclass(frozen=True)
class Cmb:
    """A controller memory buffer or persistent memory region: ``size`` bytes at ``offset`` of the BAR ``region``."""

    region: int
    offset: int
    size: int


class Nvme(Handle):
    """A controller with an admin queue of 64 entries and up to 6 I/O queues. After a reset, call ``start`` again."""

    def __init__(self, agent: Caller, ref: Ref, device: Device) -> None:
        super().__init__(agent, ref)
        self.device = device

    def start(self) -> None:
        """Enable the controller with new, empty queues."""
        self._call("start")

    def reset_and_ring(self, qid: int) -> None:
        """Call VFIO_DEVICE_RESET, and at once write the submission doorbell of queue ``qid`` from the guest's CPU.

        The host's trace then has the moment at which the call returned.
        """
        self._call("reset_and_ring", timeout=RESET_SECONDS, qid=qid)

    def export_doorbells(self) -> DmaBuf:
        """Export the page of BAR0 that holds the doorbells."""
        return self.device.export(REGISTERS, [DOORBELL_PAGE])

    def cmb(self) -> Cmb:
        """Enable the controller memory buffer. Returns its location."""
        return Cmb(**self._call("cmb"))

    def pmr(self) -> Cmb:
        """Enable the persistent memory region (config: ``memory``), which survives resets. Returns its location."""
        return Cmb(**self._call("pmr"))

    def create_io_queue(self, qid: int = 1, *, cmb_offset: int | None = None) -> None:
        """Create an I/O queue pair. Its submission queue (4 KiB) is in guest memory, or the CMB at ``cmb_offset``."""
        self._call("create_io_queue", qid=qid, cmb_offset=cmb_offset)

    def free_flexible_resources(self) -> None:
        """Release the queues and interrupts that secondary controllers may get. The function's next reset does it."""
        self._call("free_flexible_resources")

    def bring_online(self, controller: int) -> None:
        """Give a secondary controller queues and an interrupt, and set it online. Its first number is 1."""
        self._call("bring_online", controller=controller)

    def queue_identify(self) -> QueuedCommand:
        """Queue an Identify Controller on the admin queue (0), without ringing. ``data`` returns the result."""
        return _queued(self._call("submit_identify"))

    def queue_read(
        self, lba: int, blocks: int, *, qid: int = 1, cmb_offset: int | None = None, write_entry: bool = True
    ) -> QueuedCommand:
        """Queue a read of up to 4 KiB, without ringing. It goes to the CMB at ``cmb_offset``, or to ``data``.

        ``write_entry``: write the entry to the queue; otherwise the case writes it.
        """
        return _queued(
            self._call("submit_read", qid=qid, lba=lba, blocks=blocks, cmb_offset=cmb_offset, write_entry=write_entry)
        )

    def ring(self, queued: QueuedCommand) -> None:
        """Ring the command's doorbell from the guest's CPU."""
        self._call("ring", qid=queued.qid, tail=queued.tail)

    def completed(self, queued: QueuedCommand, timeout: float = 2.0) -> Completion | None:
        """Wait up to ``timeout`` seconds (for a slowdown of 1) for the command's completion; None without one."""
        asked = time.monotonic()
        completion = self._completed(queued, timeout * self.agent.slowdown, timeout)
        if completion is not None:
            self.agent.answers.add(time.monotonic() - asked)
        return completion

    def wrongly_completed(self, queued: QueuedCommand) -> Completion | None:
        """Return the completion of a command that must not run. None: a command that runs would have completed."""
        return self._completed(queued, self.agent.answers.silence_s)

    def _completed(self, queued: QueuedCommand, seconds: float, timeout: float = 0.0) -> Completion | None:
        call_s = timeout + CALL_SECONDS
        found = self._call("completed", qid=queued.qid, cid=queued.cid, seconds=seconds, timeout=call_s)
        return Completion(**found) if found else None

    def data(self, length: int = 4096) -> bytes:
        """Return the first ``length`` bytes of the data page (4 KiB) that commands without ``cmb_offset`` fill."""
        return cast(bytes, self._call("data", length=length))


def start_nvme(caller: Caller, device: Device) -> Nvme:
    """Start the controller of an open device of ``caller``."""
    nvme = Nvme(caller, caller.call("nvme", "Controller", device=device), device)
    nvme.start()
    return nvme


def _queued(fields: dict[str, Any]) -> QueuedCommand:
    return QueuedCommand(**fields)

# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an attachment to a dma-buf, as a kernel driver has it: the test importer's (guest-images/importer)."""

from dataclasses import dataclass
from typing import Literal, cast

from harness.errors import errno_name
from harness.session.client import CALL_SECONDS
from harness.session.handle import Handle

HOLD_MS = 20000
"""A delay that only ``release`` ends in time. Not for ever, so that no revoke outlives who holds it: the most that
the module takes, and less than the hung task detector's patience."""

FenceUsage = Literal["kernel", "write", "read", "bookkeep"]


@dataclass(frozen=True)
class AttachmentEvent:
    """``told``: the callback ran (``result`` 1 if there was a mapping); ``mapped`` (0 or a negative errno) and
    ``unmapped``, by whomever. ``at``: seconds on the guest's CLOCK_MONOTONIC; ``task``: the thread's id."""

    kind: Literal["notified", "mapped", "unmapped"]
    at: float
    result: int
    task: int


@dataclass(frozen=True)
class SgEntry:
    """An SG entry: DMA ``address`` and ``length``; offset and length of its page side; whether it has a ``page``."""

    address: int
    length: int
    cpu_offset: int
    cpu_length: int
    page: bool
    last: bool


@dataclass(frozen=True)
class SgTable:
    """An SG table."""

    nents: int
    orig_nents: int
    entries: list[SgEntry]


class Attachment(Handle):
    """A device attached to a buffer. Errors are those of the dma-buf core; EBADFD for what does not fit its state."""

    def map(self) -> None:
        """dma_buf_map_attachment."""
        self._call("map")

    def unmap(self) -> None:
        """dma_buf_unmap_attachment."""
        self._call("unmap")

    def cycle(self, count: int) -> None:
        """Map and unmap ``count`` times."""
        self._call("cycle", count=count)

    def map_without_memory(self, times: int) -> list[str]:
        """The errnos (``""``: none) of maps with the first, second... allocation failing, each ``times`` times. Needs
        the kernel's feature ``failslab``."""
        return [errno_name(-outcome) if outcome else "" for outcome in self._call("map_without_memory", times=times)]

    def pin(self) -> None:
        """dma_buf_pin."""
        self._call("pin")

    def unpin(self) -> None:
        """dma_buf_unpin."""
        self._call("unpin")

    def detach(self) -> None:
        """Unmap and unpin, if need be, and dma_buf_detach."""
        self._call("detach")

    def release(self) -> None:
        """End the delay between being told and unmapping."""
        self._call("release")

    def fence(self, usage: FenceUsage) -> None:
        """Put an unsignalled fence on the buffer; it is signalled after 20 s at the latest."""
        self._call("fence", usage=usage)

    def signal(self) -> None:
        """Signal that fence."""
        self._call("signal")

    def table(self) -> SgTable:
        """The SG table of its mapping."""
        found = self._call("table")
        return SgTable(found["nents"], found["orig_nents"], [SgEntry(**entry) for entry in found["entries"]])

    def mapped(self) -> bool:
        """Whether it has a mapping."""
        return cast(bool, self._call("mapped"))

    def notifications(self) -> int:
        """How often it has been told that its mapping is no longer valid, or may be again."""
        return cast(int, self._call("log")["notified"])

    def events(self) -> list[AttachmentEvent]:
        """What happened to it, the first 256 of it."""
        return [AttachmentEvent(**event) for event in self._call("log")["events"]]

    def wait_notified(self, count: int = 1, timeout: float = 5.0) -> bool:
        """Whether it is told ``count`` times in all within ``timeout`` seconds (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        return cast(bool, self._call("wait_notified", count=count, seconds=seconds, timeout=timeout + CALL_SECONDS))

# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an attachment to a dma-buf that the test importer (guest-images/importer) makes in the kernel."""

from dataclasses import dataclass
from typing import Literal, cast

from harness.errors import outcome_names
from harness.session.client import CALL_SECONDS
from harness.session.handle import Handle

HOLD_MS = 20000
"""A delay that a case ends with ``release``, in ms. It is the module's limit (IMPORTER_MAX_DELAY_MS), and less than the
hung task detector's timeout of 30 s, so no revoke waits for ever."""

Direction = Literal["both", "to-device", "from-device"]
UmemKind = Literal["revocable", "pinned", "dynamic"]
FenceUsage = Literal["kernel", "write", "read", "bookkeep"]


@dataclass(frozen=True)
class AttachmentEvent:
    """An event of the attachment's log (guest-images/importer/uapi.h, struct importer_event)."""

    kind: Literal["notified", "mapped", "unmapped"]
    """``notified``: the callback ran."""
    at: float
    """Seconds of the guest's CLOCK_MONOTONIC."""
    result: int
    """``notified``: 1 if there was a mapping. ``mapped``: 0 or a negative errno."""
    task: int
    """Id of the thread in the guest."""


@dataclass(frozen=True)
class SgEntry:
    """An entry of an SG table. Lengths and offsets are in bytes."""

    address: int
    """sg_dma_address."""
    length: int
    """sg_dma_len."""
    cpu_offset: int
    """``offset`` of the page side."""
    cpu_length: int
    """``length`` of the page side."""
    page: bool
    """Whether it has a struct page."""
    last: bool
    """sg_is_last."""


@dataclass(frozen=True)
class SgTable:
    """A struct sg_table and its entries."""

    nents: int
    orig_nents: int
    entries: list[SgEntry]


class Importing(Handle):
    """A file of the test importer: an attachment, or a buffer of the RDMA core.

    KernelErrno EBADFD for a call that does not fit its state.
    """

    def detach(self) -> None:
        """Unmap and unpin as needed, then dma_buf_detach."""
        self._call("detach")

    def table(self) -> SgTable:
        """Read the SG table of the mapping. KernelErrno EBADFD without one."""
        found = self._call("table")
        return SgTable(found["nents"], found["orig_nents"], [SgEntry(**entry) for entry in found["entries"]])

    def notifications(self) -> int:
        """Count the callbacks so far: revokes and un-revokes."""
        return cast(int, self._call("log")["notified"])

    def events(self) -> list[AttachmentEvent]:
        """Read the log's first 256 events (IMPORTER_EVENTS)."""
        return [AttachmentEvent(**event) for event in self._call("log")["events"]]

    def wait_notified(self, count: int = 1, timeout: float = 5.0) -> bool:
        """Return whether the callback runs ``count`` times in all within ``timeout`` s (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        return cast(bool, self._call("wait_notified", count=count, seconds=seconds, timeout=timeout + CALL_SECONDS))


class Umem(Importing):
    """A part of a buffer that the RDMA core imports (drivers/infiniband/core/umem_dmabuf.c). Errors are the core's.

    Its log has the core's notifications of the driver. ``table`` has the SG entries of the part.
    """

    def map(self) -> None:
        """Call ib_umem_dmabuf_map_pages."""
        self._call("map")

    def unmap(self) -> None:
        """Call ib_umem_dmabuf_unmap_pages."""
        self._call("unmap")

    def revoke(self) -> None:
        """Call ib_umem_dmabuf_revoke, as a driver does on its own."""
        self._call("revoke")


class Attachment(Importing):
    """A device attached to a buffer. Errors are those of the dma-buf core."""

    def map(self, direction: Direction = "both") -> None:
        """Call dma_buf_map_attachment. ``direction``: enum dma_data_direction, as the device accesses the buffer."""
        self._call("map", direction=direction)

    def unmap(self) -> None:
        """Call dma_buf_unmap_attachment."""
        self._call("unmap")

    def cycle(self, count: int) -> None:
        """Map and unmap ``count`` times."""
        self._call("cycle", count=count)

    def map_without_memory(self, times: int) -> list[str]:
        """Fail the first allocation of a map, then the second, and so on, ``times`` times each.

        Returns the name of the map's errno for each allocation, ``""`` for success. Needs the kernel's feature
        ``failslab``.
        """
        return outcome_names(self._call("map_without_memory", times=times))

    def pin(self) -> None:
        """Call dma_buf_pin."""
        self._call("pin")

    def unpin(self) -> None:
        """Call dma_buf_unpin."""
        self._call("unpin")

    def release(self) -> None:
        """End the delay between the callback and the unmap."""
        self._call("release")

    def fence(self, usage: FenceUsage) -> None:
        """Put an unsignalled fence on the buffer. The module signals it after 20 s (IMPORTER_MAX_DELAY_MS)."""
        self._call("fence", usage=usage)

    def signal(self) -> None:
        """Signal that fence."""
        self._call("signal")

    def mapped(self) -> bool:
        """Return whether there is a mapping."""
        return cast(bool, self._call("mapped"))

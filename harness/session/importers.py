# SPDX-License-Identifier: GPL-2.0-only
"""Importers: devices that reach into a dma-buf by DMA. One interface; how they differ is declared."""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from harness.session.client import Agent
from harness.session.device import DmaBuf
from harness.session.handle import Handle
from harness.session.nvme import REGISTERS, Ticket
from harness.session.wire import Ref

TRANSFER_SECONDS = 30.0


@dataclass(frozen=True)
class Traits:
    """What a case may need to know of an importer.

    ``after_revoke``: how a transfer through a revoked window ends. ``iommu-fault``: it returns as if it had worked, no
    data moves, and the host sees an IOMMU fault. ``refused``: it raises ImporterRefused.
    ``max_transfer``: bytes that one DMA of the device moves. ``transfer_seconds``: what one costs, about.
    """

    after_revoke: Literal["iommu-fault", "refused"]
    max_transfer: int
    transfer_seconds: float


class Importer(Handle):
    """A device that has been made ready to import; it stays so from case to case."""

    NAME: ClassVar[str]
    TRAITS: ClassVar[Traits]

    def __init__(self, agent: Agent, ref: Ref, bdf: str) -> None:
        super().__init__(agent, ref)
        self.bdf = bdf
        """The PCI address of the device whose DMA it is: the requester in an IOMMU fault."""

    def attach(self, dmabuf: DmaBuf, start: int = 0, length: int | None = None) -> "Window":
        """Import ``length`` bytes (None: all) of the buffer from ``start``.

        KernelErrno ENODEV while it is revoked; others: docs/contract.md, section 3.
        """
        length = dmabuf.size() - start if length is None else length
        ref = self._call("attach", dmabuf=dmabuf, start=start, length=length)
        return Window(self, ref, dmabuf, start, length)


class Window(Handle):
    """``length`` bytes of ``dmabuf`` from ``start``, as ``importer`` reaches them; offsets count from ``start``.

    Transfers raise ImporterRefused where the importer's traits say so.
    """

    def __init__(self, importer: Importer, ref: Ref, dmabuf: DmaBuf, start: int, length: int) -> None:
        super().__init__(importer._agent, ref)
        self.importer = importer
        self.dmabuf = dmabuf
        self.start = start
        self.length = length

    def write(self, offset: int, data: bytes) -> None:
        """The device writes ``data``."""
        self._call("write", timeout=TRANSFER_SECONDS, offset=offset, data=data)

    def read(self, offset: int, length: int) -> bytes:
        """The device reads ``length`` bytes."""
        return cast(bytes, self._call("read", timeout=TRANSFER_SECONDS, offset=offset, length=length))

    def store32(self, offset: int, value: int) -> None:
        """The device writes a dword, little endian, at a multiple of 4: exactly one access on the bus."""
        self._call("store32", timeout=TRANSFER_SECONDS, offset=offset, value=value)

    def ring(self, ticket: Ticket) -> None:
        """The device writes the ticket's tail to its doorbell. ValueError if the window does not reach it."""
        if self.dmabuf.region != REGISTERS:
            raise ValueError("the window is not of the doorbells' BAR")
        self.store32(self.dmabuf.offset_of(ticket.doorbell) - self.start, ticket.tail)

    def iova(self) -> int | None:
        """The window's IOVA in the importing device's address space, or None where the importer has none (rxe)."""
        return cast(int | None, self._call("iova"))

    def detach(self) -> None:
        """Let go of the buffer."""
        self.close()


class EduImporter(Importer):
    """QEMU's ``edu`` behind iommufd. A write is one DMA, plus one when its data is not in the device yet."""

    NAME = "iommufd+edu"
    TRAITS = Traits(after_revoke="iommu-fault", max_transfer=4088, transfer_seconds=0.1)


class NvmeImporter(Importer):
    """A second NVMe controller behind iommufd: bytes go through the first blocks of its namespace."""

    NAME = "iommufd+nvme"
    TRAITS = Traits(after_revoke="iommu-fault", max_transfer=256 << 10, transfer_seconds=0.005)


class RxeImporter(Importer):
    """RDMA over the guest's own Ethernet: an MR by dma-buf, reached from a queue pair connected to another."""

    NAME = "rxe"
    TRAITS = Traits(after_revoke="refused", max_transfer=1 << 20, transfer_seconds=0.005)


IMPORTERS: dict[str, type[Importer]] = {kind.NAME: kind for kind in (EduImporter, NvmeImporter, RxeImporter)}

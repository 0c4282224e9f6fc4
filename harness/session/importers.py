# SPDX-License-Identifier: GPL-2.0-only
"""Importers: devices that reach into a dma-buf by DMA. One interface; how they differ is declared."""

from dataclasses import dataclass
from typing import Literal, cast

from harness.config import Capability, Role
from harness.session.attachment import Attachment
from harness.session.client import Agent
from harness.session.device import Device, DmaBuf
from harness.session.handle import Handle
from harness.session.ioas import Ioas
from harness.session.nvme import REGISTERS, QueuedCommand
from harness.session.wire import Ref

TRANSFER_SECONDS = 30.0


@dataclass(frozen=True)
class ImporterKind:
    """What an importer is made of, and what a case may need to know of it.

    ``role`` and ``qemu_type`` find its device in the machine's description; ``engine`` is its service and maker in the
    agent; ``driver``: who holds the device, vfio-pci for user space, or a driver of its own that the maker sees to.
    ``max_transfer``: bytes that one DMA of the device moves. ``transfer_seconds``: what one costs, about.
    ``after_revoke``: how a transfer through a revoked window ends. ``iommu-fault``: it returns as if it had worked, no
    data moves, and the host sees an IOMMU fault. ``refused``: it raises ImporterRefused.
    """

    name: str
    role: Role
    qemu_type: str
    driver: Literal["vfio-pci", "its own"]
    engine: tuple[str, str]
    max_transfer: int
    transfer_seconds: float
    after_revoke: Literal["iommu-fault", "refused"]

    @property
    def needs(self) -> Capability:
        """What a machine must not lack for it to import anything."""
        return "iommufd" if self.name.startswith("iommufd+") else "dma-api"

    @property
    def feature(self) -> str:
        """What a kernel must not lack for it, of ``Kernel.features``."""
        return {"rxe": "rxe", "dma-api+edu": "test_importer"}.get(self.name, "iommufd")


IMPORTERS = {
    kind.name: kind
    for kind in (
        # A write is one DMA, and one more when its data is not in the device's own buffer yet.
        ImporterKind("iommufd+edu", "dma-engine", "edu", "vfio-pci", ("edu", "EduEngine"), 4088, 0.1, "iommu-fault"),
        # Bytes go through the first blocks of its namespace, which they overwrite.
        ImporterKind(
            "iommufd+nvme", "dma-engine", "nvme", "vfio-pci", ("nvme", "NvmeEngine"), 256 << 10, 0.005, "iommu-fault"
        ),
        # An MR by dma-buf, reached from a queue pair connected to another on the same device.
        ImporterKind("rxe", "roce", "virtio-net-pci", "its own", ("verbs", "open_rxe"), 256 << 10, 0.005, "refused"),
        # A dynamic importer of the kernel's: an attachment of the test importer's, mapped by the DMA API. A revoked
        # window's address may be that of a newer one; then it refuses.
        ImporterKind("dma-api+edu", "dma-engine", "edu", "its own", ("importer", "open_edu"), 4088, 0.1, "iommu-fault"),
    )
}


class Importer(Handle):
    """A device that has been made ready to import; it stays so from case to case.

    ``bdf``: the PCI address of the device whose DMA it is, the requester in an IOMMU fault; ``device_id``: what the
    machine's description calls it; ``device``: it, where user space drives it.
    """

    def __init__(
        self, agent: Agent, ref: Ref, kind: ImporterKind, bdf: str, *, device_id: str, device: Device | None = None
    ) -> None:
        super().__init__(agent, ref)
        self.kind = kind
        self.bdf = bdf
        self.device_id = device_id
        self.device = device

    def attach(self, dmabuf: DmaBuf, start: int = 0, length: int | None = None) -> "Window":
        """Import ``length`` bytes (None: all) of the buffer from ``start``.

        KernelErrno ENODEV while it is revoked; others: docs/contract.md, section 3.
        """
        length = dmabuf.size() - start if length is None else length
        ref = self._call("attach", dmabuf=dmabuf, start=start, length=length)
        return Window(self, ref, dmabuf, start, length)

    def copy(self, dmabuf: DmaBuf, source: Ioas, iova: int | None) -> "Window":
        """IOMMU_IOAS_COPY of the buffer, which ``source`` has at ``iova``, to where the device sees it. iommufd's."""
        length = dmabuf.size()
        return Window(self, self._call("copy", source=source, iova=iova, length=length), dmabuf, 0, length)

    def window(self, dmabuf: DmaBuf, attachment: Attachment) -> "Window":
        """What this device, the one of ``attachment``, reaches by its mapping. ``dma-api+edu`` only."""
        length = dmabuf.size()
        ref = self._call("window", attachment=attachment, start=0, length=length)
        return Window(self, ref, dmabuf, 0, length)


class Domain(Handle):
    """A domain over an importer's address space, in which the importer's device can be; close it to take it out."""

    def enter(self) -> None:
        """The importer's device sees what this domain maps, from now on."""
        self._call("enter")


class Window(Handle):
    """``length`` bytes of ``dmabuf`` from ``start``, as ``importer`` reaches them; offsets count from ``start``.

    Transfers raise ImporterRefused where the importer's kind says so.
    """

    def __init__(self, importer: Importer, ref: Ref, dmabuf: DmaBuf, start: int, length: int) -> None:
        super().__init__(importer.agent, ref)
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

    def ring(self, queued: QueuedCommand) -> None:
        """The device writes the queued's tail to its doorbell. ValueError if the window does not reach it."""
        if self.dmabuf.region != REGISTERS:
            raise ValueError("the window is not of the doorbells' BAR")
        self.store32(self.dmabuf.offset_of(queued.doorbell) - self.start, queued.tail)

    def local(self) -> "Window":
        """The same bytes as the local side of RDMA, by which they come from our memory or go there. rxe only."""
        return Window(self.importer, self._call("local"), self.dmabuf, self.start, self.length)

    def rkey(self) -> int:
        """The MR's key for remote access. rxe only."""
        return cast(int, self._call("key"))

    def iova(self) -> int | None:
        """The window's IOVA in the importing device's address space, or None where the importer has none (rxe)."""
        return cast(int | None, self._call("iova"))

    def detach(self) -> int | None:
        """Let go of the buffer; how many bytes the kernel says it unmapped, or None where it does not say (rxe)."""
        self.close()
        return cast(int | None, self._call("unmapped"))

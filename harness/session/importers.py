# SPDX-License-Identifier: GPL-2.0-only
"""Importers: devices that access a dma-buf by DMA, behind one interface. ImporterKind declares their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from harness.config import Capability, Role
from harness.session.attachment import Attachment
from harness.session.client import Caller
from harness.session.device import Device, DmaBuf
from harness.session.handle import Handle
from harness.session.ioas import Ioas
from harness.session.nvme import REGISTERS, QueuedCommand
from harness.session.wire import Ref

TRANSFER_SECONDS = 30.0
DEALLOCATE_SECONDS = 60.0
"""rxe waits 50 s for what still uses an object, and then warns (rxe_pool.c, ``__rxe_cleanup``)."""
IB_ACCESS_LOCAL_WRITE, IB_ACCESS_REMOTE_WRITE, IB_ACCESS_REMOTE_READ, IB_ACCESS_REMOTE_ATOMIC = 1, 2, 4, 8
IB_ACCESS_ON_DEMAND, IB_ACCESS_RELAXED_ORDERING = 1 << 6, 1 << 20
"""enum ib_access_flags (include/rdma/ib_verbs.h)."""
IB_ACCESS_ALL = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ
"""The access that ``Importer.attach`` gives."""

RegisterVerb = Literal["UVERBS_METHOD_REG_DMABUF_MR", "UVERBS_METHOD_REG_MR"]
"""The methods of uverbs that register an MR over a dma-buf. The second needs the kernel's feature ``reg_mr``."""


@dataclass(frozen=True)
class ImporterKind:
    """The parts of an importer and the properties that cases need."""

    name: str
    role: Role
    """The role of its device in the machine's description."""
    device_kind: str
    """``Device.kind`` of its device."""
    driver: Literal["vfio-pci", "its own"]
    """``its own``: a kernel driver, which the guest's function binds."""
    engine: tuple[str, str]
    """Service and function in the guest that make it."""
    max_transfer: int
    """Bytes that one DMA of the device moves."""
    transfer_seconds: float
    """Approximate duration of one DMA."""
    after_revoke: Literal["iommu-fault", "refused"]
    """How a transfer through a revoked window ends.

    ``iommu-fault``: the call succeeds, no data moves, and the host sees an IOMMU fault. ``refused``: it raises
    ImporterRefused.
    """
    on_request: bool = False
    """Whether only the cases that name it use it."""

    @property
    def needs(self) -> Capability:
        """The capability that the machine needs for this importer."""
        return "iommufd" if self.name.startswith("iommufd+") else "dma-api"

    @property
    def feature(self) -> str:
        """The feature that the kernel needs for this importer, of ``Kernel.features``."""
        if self.name.startswith("dma-api+"):
            return "test_importer"
        if self.name.startswith("io_uring+"):
            return "io_uring_dmabuf"
        return "rxe" if self.name == "rxe" else "iommufd"


IMPORTERS = {
    kind.name: kind
    for kind in (
        # A write is one DMA, plus one to load the data into the device's own buffer.
        ImporterKind("iommufd+edu", "dma-engine", "edu", "vfio-pci", ("edu", "EduEngine"), 4088, 0.1, "iommu-fault"),
        # A transfer goes through the first blocks of its namespace and overwrites them.
        ImporterKind(
            "iommufd+nvme", "dma-engine", "nvme", "vfio-pci", ("nvme", "NvmeEngine"), 256 << 10, 0.005, "iommu-fault"
        ),
        # An MR over a dma-buf, accessed through two connected queue pairs of the same device.
        ImporterKind("rxe", "roce", "virtio-net-pci", "its own", ("verbs", "open_rxe"), 256 << 10, 0.005, "refused"),
        # A dynamic importer in the kernel: the test importer's attachment, mapped by the DMA API. A transfer through a
        # revoked window raises ImporterRefused if a newer window has its DMA address.
        ImporterKind("dma-api+edu", "dma-engine", "edu", "its own", ("importer", "open_edu"), 4088, 0.1, "iommu-fault"),
        # The same with a controller that no driver has bound. Its DMA starts at once: ``Window.ring_after``.
        ImporterKind(
            name="dma-api+nvme",
            role="dma-engine",
            device_kind="nvme",
            driver="its own",
            engine=("dma_api_nvme", "open_nvme"),
            max_transfer=256 << 10,
            transfer_seconds=0.005,
            after_revoke="iommu-fault",
            on_request=True,
        ),
        # A dynamic importer in a stock kernel (7.4): the nvme driver, through a registered buffer of an io_uring. It
        # moves whole blocks, so it rings no doorbells. After an un-revoke it maps again by itself.
        ImporterKind(
            name="io_uring+nvme",
            role="dma-engine",
            device_kind="nvme",
            driver="its own",
            engine=("io_uring", "open_nvme"),
            max_transfer=64 << 10,
            transfer_seconds=0.01,
            after_revoke="refused",
            on_request=True,
        ),
    )
}


@dataclass(frozen=True)
class Action:
    """A call of the method ``do`` of an object in the guest."""

    on: Handle
    do: str
    args: Mapping[str, Any] = field(default_factory=dict)


class Importer(Handle):
    """A device that is ready to import. It stays ready from case to case.

    ``bdf``: the PCI address of the device that does the DMA, the requester in an IOMMU fault. ``device_id``: its id in
    the machine's description. ``device``: its vfio device, if user space drives it.
    """

    def __init__(
        self, agent: Caller, ref: Ref, kind: ImporterKind, bdf: str, *, device_id: str, device: Device | None = None
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

    def register(
        self,
        dmabuf: DmaBuf | int,
        *,
        start: int = 0,
        length: int,
        iova: int | None = None,
        access: int = IB_ACCESS_ALL,
        domain: "ProtectionDomain | None" = None,
        without: Sequence[str] = (),
        unwritable: str = "",
        verb: RegisterVerb = "UVERBS_METHOD_REG_DMABUF_MR",
        extra: Mapping[str, int] | None = None,
    ) -> "Window":
        """Register an MR with these arguments. rxe only.

        ``dmabuf``: an fd of the agent works too, for a refusal. ``iova``: None for ``start``. ``access``: enum
        ib_access_flags. ``domain``: None for the importer's own. ``without``: attributes to leave out, of "domain",
        "start", "length", "iova", "fd", "access", "lkey" and "rkey". ``unwritable``: "lkey" or "rkey", for which the
        kernel gets an address that it cannot write. ``extra``: attributes that only UVERBS_METHOD_REG_MR has,
        "address" and "dma-handle".
        """
        values = {"start": start, "length": length, "iova": start if iova is None else iova, "access": access}
        ref = self._call(
            "register",
            file=dmabuf,
            verb=verb,
            values={**values, **(extra or {})},
            domain=domain,
            without=list(without),
            unwritable=unwritable,
        )
        if isinstance(dmabuf, int):
            raise TypeError("an MR was made of a file that is no dma-buf")
        return Window(self, ref, dmabuf, start, length)

    def memory(self) -> int:
        """Return the address of a page in the agent's memory that has an MR of its own. rxe only."""
        return cast(int, self._call("memory"))

    def listed(self) -> list[int]:
        """Return the lengths of the MRs that the kernel lists as resources of the RDMA device. rxe only."""
        return [each["mrlen"] for each in self._call("listed")]

    def protection_domain(self) -> "ProtectionDomain":
        """Allocate a protection domain. rxe only."""
        return ProtectionDomain(self.agent, self.agent.call("verbs", "ProtectionDomain", rxe=self))

    def storm(self, window: "Window", offset: int, value: int) -> "Storm":
        """Write a dword at ``offset`` of a window again and again, until a write is refused. rxe only."""
        ref = self.agent.call("rdma_storm", "Storm", rxe=self, window=window, offset=offset, value=value)
        return Storm(self.agent, ref)

    def copy(self, dmabuf: DmaBuf, source: Ioas, iova: int | None) -> "Window":
        """Call IOMMU_IOAS_COPY from ``iova`` of ``source`` to the device's address space. iommufd only."""
        length = dmabuf.size()
        return Window(self, self._call("copy", source=source, iova=iova, length=length), dmabuf, 0, length)

    def dma_read(self, iova: int, length: int) -> bytes:
        """Let the device read what its address space has at ``iova``; undefined if the IOMMU refuses. iommufd only."""
        return cast(bytes, self._call("dma_read", timeout=TRANSFER_SECONDS, iova=iova, length=length))

    def area(self, dmabuf: DmaBuf, iova: int, start: int = 0, length: int | None = None) -> "Window":
        """Make a window of an area that the device's address space has at ``iova``. iommufd only.

        The area maps ``length`` bytes (None: all) of the buffer from ``start``. ``detach`` unmaps it, and returns None
        if it was gone.
        """
        length = dmabuf.size() - start if length is None else length
        return Window(self, self._call("area", iova=iova, length=length), dmabuf, start, length)

    def put_on_disk(self, data: bytes) -> None:
        """Write whole blocks, up to ``max_transfer``, to the start of the disk from memory. ``io_uring+nvme`` only."""
        self._call("put", timeout=TRANSFER_SECONDS, data=data)

    def on_disk(self, length: int) -> bytes:
        """Read whole blocks, up to ``max_transfer``, from the start of the disk to memory. ``io_uring+nvme`` only."""
        return cast(bytes, self._call("on_disk", timeout=TRANSFER_SECONDS, length=length))

    def window(self, dmabuf: DmaBuf, attachment: Attachment) -> "Window":
        """Make a window of the mapping of ``attachment``, which must be of this device. ``dma-api+edu`` only."""
        length = sum(length for _, length in dmabuf.ranges)  # its fd may be closed
        ref = self._call("window", attachment=attachment, start=0, length=length)
        return Window(self, ref, dmabuf, 0, length)


class ProtectionDomain(Handle):
    """A protection domain of an RDMA device. ``close`` deallocates it too."""

    def deallocate(self) -> None:
        """Call ibv_dealloc_pd. KernelErrno EBUSY while it has an MR."""
        self._call("deallocate", timeout=DEALLOCATE_SECONDS)


class Storm(Handle):
    """RDMA WRITEs that run in the guest without a pause."""

    def wait_written(self, count: int) -> None:
        """Wait until ``count`` writes have completed, or one was refused."""
        self._call("wait_written", timeout=TRANSFER_SECONDS, count=count)

    def outcome(self) -> tuple[int, str]:
        """Wait until a write is refused. Returns the number of writes that completed, and the bad status.

        The status is empty if no write was refused within 10 s.
        """
        found = self._call("outcome", timeout=TRANSFER_SECONDS)
        return found["written"], found["status"]


class Domain(Handle):
    """Another domain (HWPT) over an importer's address space. ``close`` moves the device back out of it."""

    def enter(self) -> None:
        """Attach the importer's device to this domain."""
        self._call("enter")

    def destroy(self) -> None:
        """Call IOMMU_DESTROY on this domain, which no device is in. ``close`` does nothing then."""
        self._call("destroy")


class Window(Handle):
    """``length`` bytes of ``dmabuf`` from ``start``, which ``importer`` accesses. Offsets count from ``start``.

    A transfer raises ImporterRefused if ``ImporterKind.after_revoke`` says so.
    """

    def __init__(self, importer: Importer, ref: Ref, dmabuf: DmaBuf, start: int, length: int) -> None:
        super().__init__(importer.agent, ref)
        self.importer = importer
        self.dmabuf = dmabuf
        self.start = start
        self.length = length

    def write(self, offset: int, data: bytes) -> None:
        """Let the device write ``data``."""
        self._call("write", timeout=TRANSFER_SECONDS, offset=offset, data=data)

    def read(self, offset: int, length: int) -> bytes:
        """Let the device read ``length`` bytes."""
        return cast(bytes, self._call("read", timeout=TRANSFER_SECONDS, offset=offset, length=length))

    def store32(self, offset: int, value: int) -> None:
        """Let the device write a little-endian dword at a multiple of 4, with exactly one access on the bus."""
        self._call("store32", timeout=TRANSFER_SECONDS, offset=offset, value=value)

    def ring(self, queued: QueuedCommand) -> None:
        """Let the device write the command's tail to its doorbell. ValueError if the doorbell is not in the window."""
        if self.dmabuf.region != REGISTERS:
            raise ValueError("the window is not in the BAR of the doorbells")
        self.store32(self.dmabuf.offset_of(queued.doorbell) - self.start, queued.tail)

    def store32_after(self, offset: int, value: int, action: "Action") -> None:
        """Store as ``store32`` does, as soon as the guest's call ``action`` has returned. ``dma-api+nvme`` only."""
        self._call(
            "store32_after",
            timeout=TRANSFER_SECONDS,
            offset=offset,
            value=value,
            on=action.on,
            do=action.do,
            args=action.args,
        )

    def ring_after(self, queued: QueuedCommand, action: "Action") -> None:
        """Ring as ``ring`` does, as soon as the guest's call ``action`` has returned. ``dma-api+nvme`` only."""
        self.store32_after(self.dmabuf.offset_of(queued.doorbell) - self.start, queued.tail, action)

    def fill(self, offset: int, length: int) -> None:
        """Let the device read the start of its disk into the buffer: IORING_OP_READ_FIXED. ``io_uring+nvme`` only."""
        self._call("fill", timeout=TRANSFER_SECONDS, offset=offset, length=length)

    def drain(self, offset: int, length: int) -> None:
        """Let the device write the buffer to the start of its disk: IORING_OP_WRITE_FIXED. ``io_uring+nvme`` only."""
        self._call("drain", timeout=TRANSFER_SECONDS, offset=offset, length=length)

    def local(self) -> "Window":
        """Return the same bytes as the local side of an RDMA transfer, whose other side is guest memory. rxe only."""
        return Window(self.importer, self._call("local"), self.dmabuf, self.start, self.length)

    def rkey(self) -> int:
        """Return the MR's key for remote access. rxe only."""
        return cast(int, self._call("key"))

    def iova(self) -> int | None:
        """Return the window's IOVA in the device's address space; None if the importer has no IOVAs (rxe)."""
        return cast(int | None, self._call("iova"))

    def detach(self) -> int | None:
        """Unmap the buffer. Returns the bytes that the kernel reports as unmapped; None if it reports none (rxe)."""
        self.close()
        return cast(int | None, self._call("unmapped"))

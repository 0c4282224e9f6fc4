# SPDX-License-Identifier: GPL-2.0-only
"""A session: one booted machine and its guest agent."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from harness.config import Interface
from harness.errors import UsageError
from harness.session.access import Access, UserMemory
from harness.session.attachment import Attachment, Umem, UmemKind
from harness.session.client import Agent, Caller, Pending
from harness.session.device import PAGE_SIZE, Device, DmaBuf, Timeline
from harness.session.export import MAINLINE, ExportUapi
from harness.session.handle import Handle
from harness.session.hotplug import Hotplug
from harness.session.importer_pool import ImporterPool
from harness.session.importers import IB_ACCESS_LOCAL_WRITE, Domain, Importer
from harness.session.ioas import Ioas
from harness.session.klog import KernelLog
from harness.session.nvme import Nvme, start_nvme
from harness.session.opening import DeviceOpener
from harness.session.page_table import PageTableEntry, smmu_entries
from harness.session.peer import Peer
from harness.session.process import Process
from harness.session.recording import Recording
from harness.session.references import References
from harness.session.vfio_user import VfioUserDevice
from harness.vm import Machine
from harness.witness.smmu_tables import SMMU

T = TypeVar("T")

REBOOT_SECONDS = 10.0
"""Deadline, for a slowdown of 1."""


class Session:
    """A context manager that waits for the machine, starts the agent, and returns handles.

    Handles belong to one case. ``reset`` closes them after the case, except importers, which stay ready for the next.
    ``export_uapi``: the kernel's. ``interface``: how devices are opened; None for the machine's own choice.
    ``test_importer``: whether the kernel has the test importer.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        export_uapi: ExportUapi = MAINLINE,
        interface: Interface | None = None,
        test_importer: bool = False,
    ) -> None:
        self.machine = machine
        self.export_uapi = export_uapi
        self.interface = interface or machine.config.interface
        self._test_importer = test_importer
        self._vfio_user: dict[str, VfioUserDevice] = {}
        self._peer = Peer(machine) if machine.peer else None
        self.unusable = False
        """Whether a case has made the machine unusable on purpose, so that the next case needs a fresh one."""

    def __enter__(self) -> Self:
        self.machine.wait_ready(meanwhile=self._start_agent)
        if self._peer:
            self._peer.start()
        return self

    def _start_agent(self) -> None:
        self.agent = Agent(self.machine)
        self.references = References(self.agent, test_importer=self._test_importer)
        self.hotplug = Hotplug(self.machine, self.agent, self.vfio_user)
        self._opener = DeviceOpener(self.machine, self.agent, self.export_uapi)
        self._importers = ImporterPool(self.machine, self.agent, self.references, self._opener)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.close()
        if self._peer:
            self._peer.close()

    @property
    def peer(self) -> Peer:
        """The machine's second VM. UsageError if it has none."""
        if self._peer is None:
            raise UsageError(f"{self.machine.config.path}: the case needs a second VM", hint="peer: {} gives it one")
        return self._peer

    @property
    def spent(self) -> bool:
        """Whether the next case needs a fresh machine, though this one is judged as always.

        Its peer was killed, or a device has no connection to QEMU.
        """
        return bool(self.hotplug.disconnected) or (self._peer is not None and self._peer.killed)

    def log_calls(self, log: Callable[[str], None]) -> Recording:
        """Call ``log`` with one line for each call that ended in the guest, or in the peer.

        Returns a recording for the same calls, which has not begun.
        """
        self.agent.on_call = log
        if self._peer:
            self._peer.agent.on_call = lambda line: log(f"in the peer: {line}")
        return Recording(self.agent.made)

    def reset(self) -> list[str]:
        """Close all handles but importers, and plug in the devices that the case left unplugged.

        vfio-user devices behave again first, since a close resets its device. Returns the errors of the closes.
        """
        for misbehaving in self._vfio_user.values():
            misbehaving.behave()
        self._vfio_user.clear()
        keep = self._importers.end_case()
        refused = [f"in the peer: {each}" for each in self._peer.reset()] if self._peer else []
        refused += cast(list[str], self.agent.call("rpc", "reset_all", keep=keep))
        self.hotplug.restore(self.release_device)
        return refused

    def start(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Pending[T]:
        """Start a call of a handle's method: ``session.start(device.reset)``."""
        return Pending(self.machine, lambda: function(*args, **kwargs))

    def bdf(self, device_id: str) -> str:
        """Return the guest's PCI address of a device in the machine's description."""
        return self.machine.pci_address(device_id)

    def open_device(
        self,
        device_id: str,
        via: Interface | None = None,
        *,
        same_ioas_as: Device | None = None,
        process: Process | None = None,
    ) -> Device:
        """Bind a device to vfio-pci and open it by ``via``, or as the machine says. Closes an importer that uses it.

        ``same_ioas_as``: attach it to the address space of that device, as two devices of one IOMMU group need.
        ``process``: open it in that process.
        """
        self.release_device(device_id)
        caller = self._caller(process)
        device, _ = self._opener.open(device_id, via or self.interface, caller, same_ioas_as=same_ioas_as)
        return device

    def vfio_user(self, device_id: str) -> VfioUserDevice:
        """Return the host's side of a vfio-user device. KeyError if the machine has no such device."""
        if device_id not in self._vfio_user:
            self._vfio_user[device_id] = VfioUserDevice(self.machine, device_id)
        return self._vfio_user[device_id]

    def open_nvme(
        self,
        device_id: str = "nvme0",
        via: Interface | None = None,
        *,
        same_ioas_as: Device | None = None,
        process: Process | None = None,
    ) -> Nvme:
        """Open an NVMe controller, like ``open_device``, and start it."""
        device = self.open_device(device_id, via, same_ioas_as=same_ioas_as, process=process)
        caller = self._caller(process)
        return start_nvme(caller, device)

    def importer(self, name: str) -> Importer:
        """Return the importer of that name (a key of ``IMPORTERS``), made of the machine's first fitting device.

        UsageError if the machine has no such device; KernelErrno if the kernel refuses.
        """
        return self._importers.get(name)

    def importer_in(self, ioas: Ioas, name: str) -> Importer:
        """Make an iommufd importer whose device enters ``ioas``, an address space of this case. The case ends it."""
        return self._importers.for_the_case(name, ioas=ioas)

    def importer_in_a_group(self, name: str) -> Importer:
        """Make an iommufd importer whose device is opened by its group, in an iommufd. The case ends it."""
        return self._importers.for_the_case(name, via="iommufd-group")

    def forked_importer(self, process: Process, name: str) -> Importer:
        """Return the importer of that name, like ``importer``, but in a forked process and for this case only."""
        return self._importers.in_process(name, process.inside)

    def fork(self) -> Process:
        """Fork a process with a copy of each fd that is open. ``reset`` kills it."""
        return Process(self.agent)

    def _caller(self, process: Process | None) -> Caller:
        return process.inside if process else self.agent

    def attach(
        self,
        buffer: DmaBuf | int,
        *,
        device_id: str | None,
        static: bool = False,
        peer2peer: bool = True,
        callback: bool = True,
        remap: bool = False,
        delay_ms: int = 0,
        unlocked: bool = False,
    ) -> Attachment:
        """Attach a PCI device to a buffer as a kernel driver does, independent of the device's own driver.

        ``device_id``: None for a device that is not PCI. ``static``: by dma_buf_attach, without importer operations.
        Otherwise ``peer2peer`` sets allow_peer2peer and ``callback`` provides the callback. The callback unmaps, at
        once or on a work queue after ``delay_ms``; ``remap``: it maps again if nothing is mapped. ``unlocked``: map and
        unmap by dma_buf_map_attachment_unlocked and dma_buf_unmap_attachment_unlocked.
        """
        ref = self.agent.call(
            "importer",
            "Attachment",
            bdf=self.bdf(device_id) if device_id else None,
            dmabuf=buffer,
            static=static,
            peer2peer=peer2peer,
            callback=callback,
            remap=remap,
            delay_ms=delay_ms,
            unlocked=unlocked,
        )
        return Attachment(self.agent, ref)

    def umem(
        self,
        buffer: DmaBuf | int,
        *,
        device_id: str | None,
        offset: int = 0,
        length: int | None = None,
        kind: UmemKind = "revocable",
        access: int = IB_ACCESS_LOCAL_WRITE,
    ) -> Umem:
        """Let the RDMA core import ``length`` bytes (None: all) of a buffer, as for the driver of a hardware RNIC.

        ``buffer``: an fd of the agent works too, for a refusal. ``device_id``: None for a device that is not PCI.
        ``kind``: ``revocable`` is pinned and mapped, and reports a revoke; ``pinned`` cannot be revoked; ``dynamic`` is
        mapped by ``map``. KernelErrno EOPNOTSUPP if the kernel's RDMA core has no revocable buffers.
        """
        if length is None:
            length = PAGE_SIZE if isinstance(buffer, int) else buffer.size() - offset
        ref = self.agent.call(
            "importer",
            "Umem",
            bdf=self.bdf(device_id) if device_id else None,
            file=buffer,
            offset=offset,
            length=length,
            kind=kind,
            access=access,
        )
        return Umem(self.agent, ref)

    def access(self, space: Ioas, *, delay_ms: int = 0) -> Access:
        """Make an access to an IO address space, as a kernel driver does without DMA (iommufd_access_attach).

        ``delay_ms``: how long iommufd's callback waits for ``Access.release`` before it unpins.
        """
        return Access(self.agent, self.agent.call("access", "Access", space=space, delay_ms=delay_ms))

    def user_memory(
        self, pages: int, *, scattered: bool = False, in_file: bool = False, process: Process | None = None
    ) -> UserMemory:
        """Allocate pages, in the agent or in a forked process.

        ``scattered``: no two are physical neighbours. ``in_file``: a memfd holds them.
        """
        return UserMemory(self._caller(process), pages, scattered=scattered, in_file=in_file)

    def translated(self, device_id: str) -> bool:
        """Return whether an IOMMU translates the DMA addresses of a kernel driver of the device."""
        return cast(bool, self.agent.call("pci", "translated", bdf=self.bdf(device_id)))

    def module_users(self, name: str) -> int | None:
        """Count the references on a module, without those of modules that use its symbols. None if it is built in."""
        return cast(int | None, self.agent.call("references", "module_users", name=name))

    def lazy(self) -> bool:
        """Return whether the kernel flushes the IOTLB lazily. An unmap then frees its IOVAs up to 10 ms later."""
        return cast(bool, self.agent.call("references", "lazy"))

    def new_domain(self, importer: Importer, ioas: Ioas | None = None, *, flags: int = 0) -> Domain:
        """Make another domain over an address space, by default that of an iommufd importer.

        ``ioas``: another address space of its context. The importer's device stays in its own. ``flags``: enum
        iommufd_hwpt_alloc_flags.
        """
        device = self._importers.objects(importer)[-2]
        return Domain(self.agent, self.agent.call("iommufd", "Domain", device=device, space=ioas, flags=flags))

    def ioas(self, of: Importer | Device | None = None, *, rlimit_mode: int = 0) -> Ioas:
        """Return a new IO address space without devices, or that of an iommufd importer or of an open device.

        ``rlimit_mode``: IOMMU_OPTION_RLIMIT_MODE of the new context.
        """
        if of is None:
            return Ioas(self.agent, self.agent.call("iommufd", "Iommufd", rlimit_mode=rlimit_mode))
        if isinstance(of, Device):
            return self._opener.ioas_of(of)
        iommufd, space, *_ = self._importers.objects(of)
        return Ioas(self.agent, iommufd, space)

    def udmabuf(self, length: int) -> DmaBuf:
        """Make a dma-buf of ``length`` bytes of RAM, by another exporter than vfio (drivers/dma-buf/udmabuf.c)."""
        return DmaBuf(self.agent, self.agent.call("dmabuf", "udmabuf", length=length), region=-1, ranges=[])

    def other_file(self, kind: str) -> DmaBuf:
        """Open a file that is no dma-buf, to be used like one.

        ``kind``: ``memfd`` (one page of memory), ``eventfd``, ``directory``, ``device``, or ``none`` for fd -1.
        """
        return DmaBuf(self.agent, self.agent.call("dmabuf", "OtherFile", kind=kind), region=-1, ranges=[])

    def timeline(self) -> Timeline:
        """Make a timeline of fences that user space signals. Needs the kernel's feature ``sw_sync``."""
        return Timeline(self.agent, self.agent.call("sync", "Timeline"))

    def kernel_log(self) -> KernelLog:
        """Open the kernel's log. Its first ``read`` returns what is logged from now on."""
        return KernelLog(self.agent, self.agent.call("klog", "KernelLog"))

    def open_unbound(self, device_id: str) -> Handle:
        """Open the character device of a device once more, without binding it to an iommufd."""
        return Handle(self.agent, self.agent.call("vfio", "open_node", bdf=self.bdf(device_id)))

    @contextmanager
    def without_files(self) -> Iterator[None]:
        """Let processes without CAP_SYS_ADMIN open no file in the block (fs.file-max)."""
        before = self.agent.call("processes", "set_file_limit", limit=0)
        try:
            yield
        finally:
            self.agent.call("processes", "set_file_limit", limit=before)

    def hold(self, of: Device | DmaBuf) -> Handle:
        """Start a process that has a duplicate of the fd of ``of`` open. ``close`` kills it."""
        return Handle(self.agent, self.agent.call("holder", "Holder", of=of))

    def bufinfo(self) -> list[dict[str, str]]:
        """List the guest's dma-bufs from debugfs: ``size``, ``exp_name``, ``ino`` and ``name`` of each."""
        return cast(list[dict[str, str]], self.agent.call("dmabuf", "bufinfo"))

    def wait_bufinfo(self, count: int, timeout: float) -> bool:
        """Return whether the guest has exactly ``count`` dma-bufs within ``timeout`` s (for a slowdown of 1)."""
        deadline = time.monotonic() + timeout * self.machine.slowdown
        while len(self.bufinfo()) != count:
            if time.monotonic() > deadline:
                return False
        return True

    def page_table_entries(
        self, importer: Importer | str, exporter: Device, buffer: DmaBuf
    ) -> list[PageTableEntry] | None:
        """List the IOMMU page table entries of an importer's device, open or not, that point into the buffer.

        ``importer``: or the id of any device. None if neither the kernel dumps the table nor the host can read it.
        """
        bdf = self.bdf(importer) if isinstance(importer, str) else importer.bdf
        if self.machine.iommu_type == SMMU:
            start = self.agent.call("feature_request", "bars", bdf=exporter.bdf)[buffer.region][0]
            return smmu_entries(self.machine, bdf, start, buffer.ranges)
        found = self.agent.call(
            "page_table", "entries", bdf=bdf, exporter=exporter.bdf, region=buffer.region, ranges=buffer.ranges
        )
        return None if found is None else [PageTableEntry.of(*each) for each in found]

    def slab(self) -> int:
        """Return the kernel's unreclaimable slab memory in bytes (``SUnreclaim``)."""
        return cast(int, self.agent.call("feature_request", "slab"))

    def bind(self, device_id: str, driver: str = "vfio-pci") -> None:
        """Bind a device to a driver in the guest."""
        self._opener.bind(device_id, driver)

    def unbind(self, device_id: str) -> None:
        """Unbind a device from its driver."""
        self.agent.call("pci", "unbind", bdf=self.bdf(device_id))

    def release_device(self, device_id: str) -> None:
        """Close the importers that use a device."""
        self._importers.release(device_id)

    def add_rxe_link(self) -> tuple[str, int]:
        """Create rxe's device if needed. Returns its name, and the index of its GID that is an IPv4 address."""
        return self._importers.add_rxe_link()

    def reboot(self) -> None:
        """Call reboot(2) with everything still open, and wait until the machine resets.

        The session is ``unusable`` then. GuestHung after ``REBOOT_SECONDS``.
        """
        self.unusable = True
        ssh = self.machine.ssh()
        # The guest may be gone before it answers the request, and paramiko waits for that answer without a deadline.
        self.machine.wait_reset(
            lambda: Pending(self.machine, lambda: ssh.exec_command("reboot -f"), calls_guest=False), REBOOT_SECONDS
        )

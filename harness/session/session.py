# SPDX-License-Identifier: GPL-2.0-only
"""A session: one booted machine with its guest agent."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from harness.config import Interface
from harness.errors import UsageError
from harness.session.attachment import Attachment
from harness.session.client import Agent, Pending
from harness.session.device import Device, DmaBuf
from harness.session.export import MAINLINE, ExportUapi, Range
from harness.session.importers import IMPORTERS, Domain, Importer, ImporterKind
from harness.session.ioas import Ioas
from harness.session.nvme import REGISTERS, Nvme
from harness.session.wire import Ref
from harness.vm import Machine

T = TypeVar("T")

RECOVERY_SECONDS = 10.0
SUSPEND_SECONDS = 2.0
PLUG_SECONDS = 10.0
REBOOT_SECONDS = 10.0


@dataclass(frozen=True)
class _Ready:
    """An importer, the device it holds, and all that it stands on in the agent, lowest first."""

    importer: Importer
    device_id: str
    refs: list[Ref]


class Session:
    """``with Session(machine)`` waits for the machine, starts the agent, and hands out handles.

    Handles belong to one case: ``reset`` closes what the case left open, but keeps importers ready for the next.
    ``export_uapi`` is the kernel's; ``interface``: how it opens devices, if not as the machine says.
    """

    def __init__(
        self, machine: Machine, *, export_uapi: ExportUapi = MAINLINE, interface: Interface | None = None
    ) -> None:
        self.machine = machine
        self.export_uapi = export_uapi
        self.interface = interface or machine.config.interface
        self._importers: dict[str, _Ready] = {}
        self._spaces: dict[Ref, tuple[Ref, Ref]] = {}
        self._unplugged: dict[str, int] = {}
        self.unusable = False
        """Whether its machine is of no further use, by what a case had to do."""

    def __enter__(self) -> Self:
        self.machine.wait_ready(meanwhile=self._start_agent)
        return self

    def _start_agent(self) -> None:
        self.agent = Agent(self.machine)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.close()

    def reset(self) -> list[str]:
        """Close all that the last case left open, and plug in what it left unplugged.

        Returns what the kernel refused while doing so."""
        keep = [ref for ready in self._importers.values() for ref in ready.refs]
        refused = cast(list[str], self.agent.call("rpc", "reset_all", keep=keep))
        for device_id, mark in list(self._unplugged.items()):
            self.release_device(device_id)
            self.machine.wait_unplugged(device_id, mark, PLUG_SECONDS)
            self.plug(device_id)
        return refused

    def start(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Pending[T]:
        """Call a handle's method without waiting: ``session.start(device.reset)``."""
        return Pending(self.machine, lambda: function(*args, **kwargs))

    def bdf(self, device_id: str) -> str:
        """The guest's PCI address of a device of the machine's description."""
        return self.machine.pci_address(device_id)

    def open_device(
        self, device_id: str, via: Interface | None = None, *, same_ioas_as: Device | None = None
    ) -> Device:
        """Bind a device to vfio-pci and open it, as the machine says; takes it from an importer that holds it.

        ``same_ioas_as``: in the address space of that device, as one of its IOMMU group must be.
        """
        self.release_device(device_id)
        device, _ = self._open(device_id, via or self.interface, same_ioas_as)
        return device

    def open_nvme(
        self, device_id: str = "nvme0", via: Interface | None = None, *, same_ioas_as: Device | None = None
    ) -> Nvme:
        """Open a controller and start it."""
        device = self.open_device(device_id, via, same_ioas_as=same_ioas_as)
        nvme = Nvme(self.agent, self.agent.call("nvme", "Controller", device=device), device)
        nvme.start()
        return nvme

    def importer(self, name: str) -> Importer:
        """The importer of that name (``IMPORTERS``), on the machine's first device that can be it.

        UsageError if the machine has none; KernelErrno if the kernel cannot make it.
        """
        if name not in self._importers:
            self._importers[name] = self._make_importer(IMPORTERS[name])
        return self._importers[name].importer

    def attach(
        self,
        buffer: DmaBuf,
        *,
        device_id: str | None,
        static: bool = False,
        peer2peer: bool = True,
        callback: bool = True,
        remap: bool = False,
        delay_ms: int = 0,
        rdma: bool = False,
    ) -> Attachment:
        """Attach any PCI device, or without ``device_id`` one that is not PCI, to a buffer as a kernel driver does,
        whoever drives it.

        ``static``: by dma_buf_attach, without importer operations; else ``peer2peer`` and ``callback`` are what these
        say. The callback unmaps, at once or, without blocking, after ``delay_ms``; ``remap``: then it maps again.
        ``rdma``: pinned and mapped by the RDMA core, which tells of a revoke; EOPNOTSUPP where it cannot. Of the
        methods only ``told``, ``events`` and ``detach`` make sense then.
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
            rdma=rdma,
        )
        return Attachment(self.agent, ref)

    def new_domain(self, importer: Importer) -> Domain:
        """A further domain over the address space of an importer of iommufd's; the importer stays where it is."""
        device = self._importers[importer.kind.name].refs[-2]
        return Domain(self.agent, self.agent.call("iommufd", "Domain", device=device))

    def ioas(self, importer: Importer | None = None) -> Ioas:
        """A new IO address space of iommufd's with no device in it, or that of an importer, which stays open."""
        if importer is None:
            return Ioas(self.agent, self.agent.call("iommufd", "Iommufd"))
        iommufd, space, *_ = self._importers[importer.kind.name].refs
        return Ioas(self.agent, iommufd, space)

    def udmabuf(self, length: int) -> DmaBuf:
        """A dma-buf of ordinary memory, by another exporter than vfio (drivers/dma-buf/udmabuf.c)."""
        return DmaBuf(self.agent, self.agent.call("dmabuf", "udmabuf", length=length), region=-1, ranges=[])

    def kill_with_open(self, device_id: str, ranges: Sequence[Range], closes: Sequence[str]) -> None:
        """In a process of its own open a device, export ``ranges`` of BAR 0, and map that where the device sees it;
        close ``closes`` (of ``buffer``, ``device``, ``iommufd``) in that order, and be killed with the rest open.
        """
        self.release_device(device_id)
        self.bind(device_id)
        bdf, payload = self.bdf(device_id), self.export_uapi.payload(REGISTERS, ranges, os.O_RDWR | os.O_CLOEXEC, 0)
        number = self.export_uapi.feature
        self.agent.call("teardown", "kill_after", bdf=bdf, feature=number, payload=payload, closes=list(closes))

    def bufinfo(self) -> list[dict[str, str]]:
        """The dma-bufs alive in the guest: ``size``, ``exp_name``, ``ino`` of each, as debugfs prints them."""
        return cast(list[dict[str, str]], self.agent.call("dmabuf", "bufinfo"))

    def page_table_entries(self, importer: Importer, exporter: Device, buffer: DmaBuf) -> int | None:
        """How many entries of the page table that translates for an importer's device point into the buffer; None
        where the kernel dumps none."""
        count = self.agent.call(
            "page_table",
            "entries",
            bdf=importer.bdf,
            exporter=exporter.bdf,
            region=buffer.region,
            ranges=buffer.ranges,
        )
        return cast(int | None, count)

    def slab(self) -> int:
        """Bytes of kernel memory that nothing can reclaim (``SUnreclaim``)."""
        return cast(int, self.agent.call("feature_request", "slab"))

    def bind(self, device_id: str, driver: str = "vfio-pci") -> None:
        """Bind a device to a driver of the guest."""
        self.agent.call("pci", "bind", bdf=self.bdf(device_id), name=driver)

    def unbind(self, device_id: str) -> None:
        """Take a device from its driver."""
        self.agent.call("pci", "unbind", bdf=self.bdf(device_id))

    def unplug(self, device_id: str) -> None:
        """Hot-unplug a device by QMP; returns once the guest has let go of it, and with ``start`` at once.

        GuestHung if it has not within ``PLUG_SECONDS``. What a case leaves unplugged ``reset`` plugs in again."""
        self._unplugged[device_id] = mark = self.machine.unplug(device_id)
        self.machine.wait_unplugged(device_id, mark, PLUG_SECONDS)

    def plug(self, device_id: str) -> None:
        """Plug a device in again, as new; returns once the kernel has found it."""
        self.machine.plug(device_id)
        seconds = PLUG_SECONDS * self.machine.slowdown
        self.agent.call("pci", "wait_present", bdf=self.bdf(device_id), seconds=seconds)
        del self._unplugged[device_id]

    def release_device(self, device_id: str) -> None:
        """Close the importers that hold a device."""
        for name, ready in list(self._importers.items()):
            if ready.device_id == device_id:
                del self._importers[name]
                for ref in reversed(ready.refs):
                    self.agent.call(ref, "close")

    def reboot(self) -> None:
        """reboot(2) with everything still open; returns as the machine resets, and then the session is ``unusable``.

        GuestHung if the kernel has not let go within ``REBOOT_SECONDS``."""
        self.unusable = True
        self.machine.wait_reset(lambda: self.machine.ssh().exec_command("reboot -f"), REBOOT_SECONDS)

    def suspended(self, device_id: str) -> bool:
        """Whether the kernel suspends a device that nobody keeps awake, within ``SUSPEND_SECONDS``."""
        seconds = SUSPEND_SECONDS * self.machine.slowdown
        return cast(bool, self.agent.call("pci", "suspended", bdf=self.bdf(device_id), seconds=seconds))

    def power_state(self, device_id: str) -> str:
        """What the kernel takes a device's power state to be: ``D0``, ``D3hot``...; asking does not wake it."""
        return cast(str, self.agent.call("pci", "power_state", bdf=self.bdf(device_id)))

    def sysfs_reset(self, device_id: str) -> None:
        """Reset a device by its ``reset`` file in sysfs, behind the back of who has it open."""
        self.agent.call("pci", "reset", bdf=self.bdf(device_id))

    def has_native_aer(self, port_id: str) -> bool:
        """Whether the kernel, and not the firmware, handles PCIe errors of a root port."""
        return cast(bool, self.agent.call("pci", "has_aer_service", bdf=self.bdf(port_id)))

    def recover_from_error(self, port_id: str) -> None:
        """Report a fatal error at a root port, and wait until the kernel has reset what is below and recovered."""
        console = self.machine.console
        mark = console.mark()
        self.machine.qmp.monitor(f"pcie_aer_inject_error {port_id} DLP")
        console.wait_for(b"device recovery successful", timeout=RECOVERY_SECONDS * self.machine.slowdown, since=mark)

    def _open(self, device_id: str, via: Interface, same_ioas_as: Device | None = None) -> tuple[Device, list[Ref]]:
        """A device, and all the objects that it stands on."""
        bdf = self.bdf(device_id)
        for each in (device_id, *(other.id for other in self.machine.config.with_role("companion"))):
            self.bind(each)
        if via == "group":
            if self.machine.config.iommu:
                container = self.agent.call("container", "Container", bdf=bdf)
            else:
                container = self.agent.call("noiommu", "NoIommu", bdf=bdf)
            ref = self.agent.call("vfio", "open_group", bdf=bdf, container=container)
            return Device(self.agent, ref, bdf, self.export_uapi), [container, ref]
        if same_ioas_as:
            iommufd, space = self._spaces[same_ioas_as.ref]
        else:
            iommufd = self.agent.call("iommufd", "Iommufd")
            space = self.agent.call(iommufd, "ioas")
        ref = self.agent.call("vfio", "open_cdev", bdf=bdf, iommufd=iommufd, space=space)
        self._spaces[ref] = iommufd, space
        return Device(self.agent, ref, bdf, self.export_uapi), [iommufd, space, ref]

    def _make_importer(self, kind: ImporterKind) -> _Ready:
        device_id = self._device_for(kind)
        self.release_device(device_id)
        if kind.driver == "its own":
            bdf = self.bdf(device_id)
            ref = self.agent.call(*kind.engine, bdf=bdf)
            return _Ready(Importer(self.agent, ref, kind, bdf, device_id=device_id), device_id, [ref])
        device, refs = self._open(device_id, "cdev")
        ref = self.agent.call(*kind.engine, device=device)
        importer = Importer(self.agent, ref, kind, device.bdf, device_id=device_id, device=device)
        return _Ready(importer, device_id, [*refs, ref])

    def _device_for(self, kind: ImporterKind) -> str:
        for device in self.machine.config.with_role(kind.role):
            if device.type == kind.qemu_type:
                return device.id
        path = self.machine.config.path
        raise UsageError(f"{path}: importer {kind.name} needs a device of type {kind.qemu_type} with role {kind.role}")

# SPDX-License-Identifier: GPL-2.0-only
"""Handles on a vfio device and on the dma-bufs that it exports."""

import os
from collections.abc import Sequence
from typing import Literal, cast

from harness.session.client import CALL_SECONDS, Caller
from harness.session.export import ExportUapi, Range
from harness.session.handle import Handle
from harness.session.wire import Ref

Register = Literal["COMMAND", "PMCSR", "DEVCTL"]
"""A register of config space that revokes: of the header, the Power Management and the PCI Express capability."""
ResetName = Literal["reset", "flr", "hot_reset"]
"""A method that resets the device."""
RESET_SECONDS = 20.0
RELEASE_SECONDS = 10.0
"""A slot with native hot-plug asks for its device 5 s after the request to unplug it (pciehp_handle_button_press())."""
PAGE_SIZE = 0x1000
"""Bytes of a page: of x86-64, and of the kernels of guest-images/kernel/arm64.config."""
OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC
"""``open_flags`` of an export unless a case chooses others."""


class DmaBuf(Handle):
    """An open dma-buf.

    ``region`` and ``ranges``: the part of the device that it exports; -1 and none for another exporter than vfio.
    """

    def __init__(self, agent: Caller, ref: Ref, region: int, ranges: Sequence[Range]) -> None:
        super().__init__(agent, ref)
        self.region = region
        self.ranges = tuple(ranges)

    def offset_of(self, region_offset: int) -> int:
        """Return where the byte at ``region_offset`` of the region is in the buffer. ValueError if it is not there."""
        base = 0
        for start, length in self.ranges:
            if start <= region_offset < start + length:
                return base + region_offset - start
            base += length
        raise ValueError(f"offset {region_offset:#x} of region {self.region} is not in the buffer")

    def dup(self) -> "DmaBuf":
        """Duplicate the fd."""
        return DmaBuf(self.agent, self._call("dup"), self.region, self.ranges)

    def size(self) -> int:
        """Return the size in bytes, by lseek."""
        return cast(int, self._call("size"))

    def fdinfo(self) -> dict[str, str]:
        """Read ``/proc/self/fdinfo``: ``size``, ``count``, ``exp_name``..., as the kernel prints them."""
        return cast(dict[str, str], self._call("fdinfo"))

    def inode(self) -> int:
        """Return the inode number, which identifies the buffer in ``Session.bufinfo``."""
        return cast(int, self._call("inode"))

    def cloexec(self) -> bool:
        """Return whether the fd is close-on-exec."""
        return cast(bool, self._call("cloexec"))

    def status_flags(self) -> int:
        """Return F_GETFL: the access mode and O_NONBLOCK, as ``os.O_*``."""
        return cast(int, self._call("status_flags"))

    def sync(self, flags: int) -> None:
        """Call DMA_BUF_IOCTL_SYNC with its ``flags``."""
        self._call("sync", flags=flags)

    def seek(self, offset: int, whence: int) -> int:
        """Call lseek; ``whence``: ``os.SEEK_SET``... Returns the position."""
        return cast(int, self._call("seek", offset=offset, whence=whence))

    def set_name(self, name: str) -> None:
        """Call DMA_BUF_SET_NAME."""
        self._call("set_name", name=name.encode())

    def poll(self, events: int, timeout: float = 0.0) -> int:
        """Return those of ``events`` (``select.POLLIN``, ``POLLOUT``) that poll(2) reports within ``timeout`` s.

        The time is for a slowdown of 1.
        """
        milliseconds = int(timeout * self.agent.slowdown * 1000)
        return cast(int, self._call("poll", events=events, milliseconds=milliseconds, timeout=timeout + CALL_SECONDS))

    def export_sync_file(self, flags: int) -> "SyncFile":
        """Call DMA_BUF_IOCTL_EXPORT_SYNC_FILE."""
        return SyncFile(self.agent, self._call("export_sync_file", flags=flags))

    def import_sync_file(self, flags: int, file: "Handle") -> None:
        """Call DMA_BUF_IOCTL_IMPORT_SYNC_FILE."""
        self._call("import_sync_file", flags=flags, file=file)

    def mmap(self, length: int) -> None:
        """Map ``length`` bytes with mmap, and unmap them. KernelErrno EINVAL if the exporter has no mmap."""
        self._call("mmap", length=length)

    def map_cpu(self, length: int, *, shared: bool = True) -> "CpuMapping":
        """Map ``length`` bytes into the agent's memory. KernelErrno EINVAL if the exporter has no mmap."""
        return CpuMapping(self.agent, self._call("map_cpu", length=length, shared=shared))


class CpuMapping(Handle):
    """An export in the agent's memory. It holds a reference to the dma-buf."""

    def load(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes, up to a page. KernelErrno EFAULT while the page is not there."""
        return cast(bytes, self._call("load", offset=offset, length=length))

    def store(self, offset: int, data: bytes) -> None:
        """Write ``data``, up to a page. KernelErrno EFAULT while the page is not there."""
        self._call("store", offset=offset, data=data)


class SyncFile(Handle):
    """A sync file: fences in user space (drivers/dma-buf/sync_file.c)."""

    def signalled(self) -> bool:
        """Return whether all its fences are signalled."""
        return cast(bool, self._call("signalled"))


class Timeline(Handle):
    """A counter of sw_sync, which makes fences and signals them. Needs the kernel's feature ``sw_sync``."""

    def fence(self) -> SyncFile:
        """Make a fence that the next ``advance`` signals."""
        return SyncFile(self.agent, self._call("fence"))

    def advance(self) -> None:
        """Signal the fence."""
        self._call("advance")


class Device(Handle):
    """An open vfio-pci device, attached to an address space, with bus mastering on. Regions 0 to 5 are its BARs."""

    def __init__(self, agent: Caller, ref: Ref, bdf: str, uapi: ExportUapi) -> None:
        super().__init__(agent, ref)
        self.bdf = bdf
        self.uapi = uapi

    def dup(self) -> Handle:
        """Duplicate the fd. The device stays open until both are closed."""
        return Handle(self.agent, self._call("dup"))

    def export(self, region: int, ranges: Sequence[Range], *, open_flags: int = OPEN_FLAGS, flags: int = 0) -> DmaBuf:
        """Export ``ranges`` of a BAR as one dma-buf. Errors: docs/contract.md, section 1."""
        payload = self.uapi.payload(region, ranges, open_flags, flags)
        return DmaBuf(self.agent, self._call("export", feature=self.uapi.feature, payload=payload), region, ranges)

    def feature(self, flags: int, payload: bytes = b"", argsz: int | None = None) -> tuple[int, bytes]:
        """Call VFIO_DEVICE_FEATURE with raw arguments. Returns the ioctl's value and the payload after the call."""
        value, after = self._call("feature", flags=flags, payload=payload, argsz=argsz)
        return value, after

    def read(self, region: int, offset: int, length: int) -> bytes:
        """Read a region through vfio. KernelErrno EIO while its memory is disabled."""
        return cast(bytes, self._call("read", region=region, offset=offset, length=length))

    def loads_during(self, reset: ResetName, region: int, offset: int) -> list[int]:
        """Reset the device, and meanwhile load 4 bytes of a BAR through an mmap. Returns the different values."""
        page, within = divmod(offset, PAGE_SIZE)
        return cast(
            list[int],
            self._call(
                "loads_during", reset=reset, region=region, page=page * PAGE_SIZE, offset=within, timeout=RESET_SECONDS
            ),
        )

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region through vfio."""
        self._call("write", region=region, offset=offset, data=data)

    def duplicate(self) -> Handle:
        """Duplicate the device's fd (dup)."""
        return Handle(self.agent, self._call("duplicate"))

    def open_again(self) -> Handle:
        """Open a device of a group once more (VFIO_GROUP_GET_DEVICE_FD)."""
        return Handle(self.agent, self._call("open_again"))

    def detach(self) -> None:
        """Call VFIO_DEVICE_DETACH_IOMMUFD_PT: leave the address space. The IOMMU then blocks the device's own DMA."""
        self._call("detach")

    def attach(self) -> None:
        """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT: enter the address space again."""
        self._call("attach")

    def reset(self) -> None:
        """Call VFIO_DEVICE_RESET."""
        self._call("reset", timeout=RESET_SECONDS)

    def flr(self) -> None:
        """Reset the function by the PCI Express capability in config space."""
        self._call("flr", timeout=RESET_SECONDS)

    def af_flr(self) -> None:
        """Reset the function by the Advanced Features capability in config space."""
        self._call("af_flr", timeout=RESET_SECONDS)

    def af_control(self) -> int:
        """Return AF_CTRL, the control register of the Advanced Features capability."""
        return cast(int, self._call("af_control"))

    def hot_reset(self) -> None:
        """Call VFIO_DEVICE_PCI_HOT_RESET."""
        self._call("hot_reset", timeout=RESET_SECONDS)

    def hot_reset_info(self) -> list[dict[str, int]]:
        """Call VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: ``id``, ``segment``, ``bus`` and ``devfn`` of each device."""
        return cast(list[dict[str, int]], self._call("hot_reset_info"))

    def command(self) -> int:
        """Read the PCI COMMAND register, as vfio shows it."""
        return cast(int, self._call("command"))

    def modify_config(self, register: Register, before: int, length: int, clear: int, value: int) -> None:
        """Clear the bits ``clear`` of a 16-bit register of config space and set ``value``, by one write.

        The write has ``length`` bytes and begins ``before`` bytes before the register, or behind its start if negative.
        Its other bytes keep their value.
        """
        self._call(
            "modify_config",
            register=register,
            before=before,
            length=length,
            clear=clear,
            value=value,
            timeout=RESET_SECONDS,
        )

    def register(self, register: Register) -> int:
        """Read a 16-bit register of config space, as vfio shows it."""
        return cast(int, self._call("register", register=register))

    def hardware_register(self, register: Register) -> int:
        """Read a 16-bit register of the device itself through sysfs; vfio may show another value."""
        return cast(int, self.agent.call("pci", "hardware_register", bdf=self.bdf, name=register))

    def hardware_bars(self) -> bytes:
        """Read the BARs of the device itself through sysfs."""
        return cast(bytes, self.agent.call("pci", "hardware_bars", bdf=self.bdf))

    def lose_config(self, *, command: bool, bars: bool) -> bytes:
        """Clear COMMAND and the BARs in the device itself, or one of them, as a reset behind vfio's back does.

        Returns the BARs before.
        """
        return cast(bytes, self.agent.call("pci", "lose_config", bdf=self.bdf, command=command, bars=bars))

    def set_memory(self, on: bool) -> None:
        """Write COMMAND.MEM."""
        self._call("set_memory", on=on)

    def revoke(self) -> None:
        """Revoke the device's buffers, and make it usable at once: clear COMMAND.MEM and set it again."""
        self.set_memory(False)
        self.set_memory(True)

    def set_master(self, on: bool) -> None:
        """Write COMMAND.MASTER. That writes COMMAND, with MEM unchanged."""
        self._call("set_master", on=on)

    def set_power_state(self, state: int) -> None:
        """Write PMCSR: D0 is 0, D3hot is 3."""
        self._call("set_power_state", state=state)

    def low_power_entry(self) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY."""
        self._call("low_power_entry")

    def low_power_entry_with_wakeup(self, number: int | None = None) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, with an eventfd that ``woken`` reads.

        ``number``: the eventfd's number, in a forked process, whose own file of that number is closed.
        """
        self._call("low_power_entry_with_wakeup", number=number)

    def woken(self) -> bool:
        """Return whether the kernel has signalled a wake-up from low power since the last call."""
        return cast(bool, self._call("woken"))

    def enable_request_irq(self) -> None:
        """Set the eventfd of VFIO_PCI_REQ_IRQ_INDEX, which the kernel signals when it needs the device closed."""
        self._call("enable_request_irq")

    def release_requested(self, timeout: float = RELEASE_SECONDS) -> bool:
        """Return whether the kernel signals that eventfd within ``timeout`` seconds (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        return cast(bool, self._call("release_requested", seconds=seconds, timeout=timeout + CALL_SECONDS))

    def enable_msix(self) -> None:
        """Set the eventfd of MSI-X vector 0."""
        self._call("enable_msix")

    def interrupted(self, timeout: float = 2.0) -> bool:
        """Return whether vector 0 has signalled since the last call, within ``timeout`` s (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        return cast(bool, self._call("interrupted", seconds=seconds, timeout=timeout + CALL_SECONDS))

    def low_power_exit(self) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_EXIT."""
        self._call("low_power_exit")

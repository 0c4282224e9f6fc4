# SPDX-License-Identifier: GPL-2.0-only
"""A vfio-pci device (drivers/vfio/vfio_main.c, drivers/vfio/pci/vfio_pci_core.c)."""

import ctypes
import mmap
import os
import select
import struct
import threading
from contextlib import closing

from . import files
from .config_space import ConfigSpace
from .container import Container, GroupIoas
from .dmabuf import DmaBuf
from .fail_nth import acting
from .iommufd import Iommufd
from .kernel import ioctl, named, open_file
from .memory import AddressSpace
from .mmio import Mapping
from .pci import DEVICES
from .resource import File
from .uapi import vfio as uapi


class Node(File):
    """A vfio device's fd. The fd of a character device refuses every call until it is bound to an iommufd."""

    KIND = "vfio device"

    def dup(self) -> "Node":
        """Duplicate the fd. The device stays open until both are closed."""
        return Node(os.dup(self.fd))


class Device(Node):
    """An open vfio device attached to ``space``, with bus mastering on."""

    def __init__(self, bdf: str, fd: int, space: AddressSpace) -> None:
        super().__init__(fd)
        self.bdf = bdf
        self.space = space
        self.number = 0  # iommufd's id of the device once it is bound
        self._wakeup: int | None = None
        self._request: int | None = None
        self._msix: int | None = None
        self._regions: dict[int, uapi.RegionInfo] = {}
        self.config = ConfigSpace(
            lambda offset, length: self.read(uapi.VFIO_PCI_CONFIG_REGION_INDEX, offset, length),
            lambda offset, data: self.write(uapi.VFIO_PCI_CONFIG_REGION_INDEX, offset, data),
        )

    def _region(self, index: int) -> uapi.RegionInfo:
        if index not in self._regions:
            info = uapi.RegionInfo(index=index)
            ioctl(self.fd, uapi.VFIO_DEVICE_GET_REGION_INFO, info)
            self._regions[index] = info
        return self._regions[index]

    def region_info(self, index: int) -> dict[str, int]:
        """Call VFIO_DEVICE_GET_REGION_INFO: ``size``, ``flags``, and ``offset`` in the device's fd."""
        return self._region(index).as_dict()

    def read(self, region: int, offset: int, length: int) -> bytes:
        """Read a region by pread, which vfio splits into aligned accesses of up to 8 bytes. EIO if MEM is clear."""
        with named(f"read vfio region {region}"):
            return os.pread(self.fd, length, self._region(region).offset + offset)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region by pwrite. Naturally aligned 1, 2, 4 or 8 bytes are exactly one access."""
        at = self._region(region).offset + offset
        with named(call := f"write vfio region {region}"):
            acting(call, lambda: os.pwrite(self.fd, data, at))

    def loads_during(self, reset: str, region: int, page: int, offset: int) -> list[int]:
        """Call the method ``reset``, and meanwhile load 4 bytes through an mmap of a region's page. Returns the values.

        The first load comes before the call, and the last one after it.
        """
        with closing(Mapping(self.fd, self._region(region).offset + page, mmap.PAGESIZE)) as mapping:
            found, done = {mapping.load(offset, 4)}, threading.Event()

            def load() -> None:
                while not done.is_set():
                    found.add(mapping.load(offset, 4))

            loader = threading.Thread(target=load, daemon=True)
            loader.start()
            try:
                getattr(self, reset)()
            finally:
                done.set()
                loader.join()
            found.add(mapping.load(offset, 4))
        return sorted(found)

    def read32(self, region: int, offset: int) -> int:
        """Read 4 bytes in one access."""
        return int(struct.unpack("<I", self.read(region, offset, 4))[0])

    def write32(self, region: int, offset: int, value: int) -> None:
        """Write 4 bytes in one access."""
        self.write(region, offset, struct.pack("<I", value))

    def duplicate(self) -> Node:
        """Duplicate the fd (dup)."""
        return Node(os.dup(self.fd))

    def open_again(self) -> Node:
        """Open the device once more through its group (VFIO_GROUP_GET_DEVICE_FD)."""
        assert isinstance(self.space, Container)
        return Node(self.space.group.device(self.bdf))

    def detach(self) -> None:
        """Call VFIO_DEVICE_DETACH_IOMMUFD_PT: leave the address space. The IOMMU then blocks the device's DMA."""
        ioctl(self.fd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.IommufdDetach())

    def attach(self) -> None:
        """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT: enter the address space again."""
        self.space.attach(self.fd)

    def reset(self) -> None:
        """Call VFIO_DEVICE_RESET. Blocks until every importer has unmapped."""
        ioctl(self.fd, uapi.VFIO_DEVICE_RESET)

    def hot_reset_info(self) -> list[dict[str, int]]:
        """Call VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the devices that a hot reset resets."""
        header, entry = ctypes.sizeof(uapi.HotReset), ctypes.sizeof(uapi.DependentDevice)
        buffer = bytearray(header + 64 * entry)
        buffer[:header] = bytes(uapi.HotReset(argsz=len(buffer)))
        ioctl(self.fd, uapi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, buffer)
        count = uapi.HotReset.from_buffer_copy(buffer).count
        return [uapi.DependentDevice.from_buffer_copy(buffer, header + i * entry).as_dict() for i in range(count)]

    def hot_reset(self) -> None:
        """Call VFIO_DEVICE_PCI_HOT_RESET. The group's fd proves ownership; with iommufd no fd is passed."""
        fds = [self.space.group.fd] if isinstance(self.space, Container | GroupIoas) else []
        header = uapi.HotReset(argsz=ctypes.sizeof(uapi.HotReset) + 4 * len(fds), count=len(fds))
        ioctl(self.fd, uapi.VFIO_DEVICE_PCI_HOT_RESET, bytearray(bytes(header) + struct.pack(f"<{len(fds)}i", *fds)))

    def feature(self, flags: int, payload: bytes = b"", argsz: int | None = None) -> tuple[int, bytes]:
        """Call VFIO_DEVICE_FEATURE. ``flags``: feature number, GET, SET, PROBE. Returns the value and the payload."""
        header = uapi.Feature(flags=flags)
        size = ctypes.sizeof(header)
        header.argsz = size + len(payload) if argsz is None else argsz
        buffer = bytearray(bytes(header) + payload)
        return ioctl(self.fd, uapi.VFIO_DEVICE_FEATURE, buffer), bytes(buffer[size:])

    def export(self, feature: int, payload: bytes) -> DmaBuf:
        """Call VFIO_DEVICE_FEATURE GET for the export. Its number and payload depend on the kernel's version."""
        return DmaBuf(self.feature(feature | uapi.VFIO_DEVICE_FEATURE_GET, payload)[0])

    def low_power_entry(self) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY."""
        self.feature(uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY | uapi.VFIO_DEVICE_FEATURE_SET)

    def low_power_entry_with_wakeup(self, number: int | None = None) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP; see ``woken``. ``number``: make it the eventfd's."""
        if self._wakeup is None:
            self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._undo.callback(os.close, self._wakeup)
        if number is not None:
            os.dup2(self._wakeup, number, inheritable=False)
        payload = struct.pack("<iI", self._wakeup if number is None else number, 0)
        self.feature(uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP | uapi.VFIO_DEVICE_FEATURE_SET, payload)

    def woken(self) -> bool:
        """Return whether the kernel has signalled a wake-up since the last call."""
        try:
            return self._wakeup is not None and os.eventfd_read(self._wakeup) > 0
        except BlockingIOError:
            return False

    def enable_request_irq(self) -> None:
        """Call VFIO_DEVICE_SET_IRQS: set the eventfd that ``release_requested`` waits for."""
        self._request = self._set_eventfd(uapi.VFIO_PCI_REQ_IRQ_INDEX)

    def release_requested(self, seconds: float) -> bool:
        """Return whether the kernel signals the eventfd of ``enable_request_irq`` within ``seconds``."""
        assert self._request is not None
        return bool(select.select([self._request], [], [], seconds)[0])

    def enable_msix(self) -> None:
        """Call VFIO_DEVICE_SET_IRQS: set the eventfd of MSI-X vector 0, that ``interrupted`` waits for."""
        self._msix = self._set_eventfd(uapi.VFIO_PCI_MSIX_IRQ_INDEX)

    def interrupted(self, seconds: float) -> bool:
        """Return whether the vector of ``enable_msix`` has signalled since the last call, within ``seconds``."""
        assert self._msix is not None
        signalled = bool(select.select([self._msix], [], [], seconds)[0])
        if signalled:
            os.eventfd_read(self._msix)
        return signalled

    def _set_eventfd(self, index: int) -> int:
        """Make an eventfd for the first interrupt of an index."""
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._undo.callback(os.close, eventfd)
        flags = uapi.VFIO_IRQ_SET_DATA_EVENTFD | uapi.VFIO_IRQ_SET_ACTION_TRIGGER
        header = uapi.IrqSet(flags=flags, index=index, count=1)
        header.argsz = ctypes.sizeof(header) + 4
        ioctl(self.fd, uapi.VFIO_DEVICE_SET_IRQS, bytearray(bytes(header) + struct.pack("<i", eventfd)))
        return eventfd

    def low_power_exit(self) -> None:
        """Call VFIO_DEVICE_FEATURE_LOW_POWER_EXIT."""
        self.feature(uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT | uapi.VFIO_DEVICE_FEATURE_SET)

    def command(self) -> int:
        """Read the COMMAND register, as vfio shows it."""
        return self.config.word(0x04)

    def set_memory(self, on: bool) -> None:
        """Write COMMAND.MEM."""
        self.config.set_memory(on)

    def revoke(self) -> None:
        """Revoke the device's buffers, and make it usable at once: clear COMMAND.MEM and set it again."""
        self.set_memory(False)
        self.set_memory(True)

    def set_master(self, on: bool) -> None:
        """Write COMMAND.MASTER."""
        self.config.set_master(on)

    def set_power_state(self, state: int) -> None:
        """Write PMCSR: 0 for D0 to 3 for D3hot."""
        self.config.set_power_state(state)

    def register(self, register: str) -> int:
        """Read a 16-bit register, as vfio shows it. See ``ConfigSpace.register``."""
        return self.config.word(self.config.register(register))

    def modify_config(self, register: str, before: int, length: int, clear: int, value: int) -> None:
        """Change a 16-bit register by one write that begins ``before`` bytes before it. See ``ConfigSpace.modify``."""
        self.config.modify(register, before, length, clear, value)

    def flr(self) -> None:
        """Reset the function by the PCI Express capability in config space."""
        self.config.flr()

    def af_flr(self) -> None:
        """Reset the function by the Advanced Features capability in config space."""
        self.config.af_flr()

    def af_control(self) -> int:
        """Return AF_CTRL of the Advanced Features capability."""
        return self.config.af_control()


def open_node(bdf: str) -> Node:
    """Open the character device of the device at ``bdf`` without binding it."""
    return Node(open_file(_node(bdf)))


def _node(bdf: str) -> str:
    directory = f"{DEVICES}/{bdf}/vfio-dev"
    with named(f"list {directory}"):
        return f"/dev/vfio/devices/{files.names(directory)[0]}"


def open_cdev(bdf: str, iommufd: Iommufd, space: AddressSpace, token: bytes = b"") -> Device:
    """Open the character device of the device at ``bdf``, bind it to ``iommufd`` and attach it to ``space``.

    ``token``: the PCI VF token's 16 bytes. A PF that is open with it lets VFs be opened with the same one.
    """
    device = Device(bdf, open_file(_node(bdf)), space)
    request: uapi.BindIommufd | uapi.BindIommufdToken = uapi.BindIommufd(iommufd=iommufd.fd)
    memory = ctypes.create_string_buffer(token, 16)  # must outlive the ioctl
    if token:
        address = ctypes.addressof(memory)
        flags = uapi.VFIO_DEVICE_BIND_FLAG_TOKEN
        request = uapi.BindIommufdToken(flags=flags, iommufd=iommufd.fd, token_uuid_ptr=address)
    try:
        ioctl(device.fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, request)
        device.number = request.out_devid
        space.attach(device.fd)
        device.set_master(True)
    except BaseException:
        device.close()
        raise
    return device


def open_group(bdf: str, container: Container | GroupIoas) -> Device:
    """Open the device at ``bdf`` through the group of ``container``. The device closes a type1 container."""
    device = Device(bdf, container.group.device(bdf), container)
    if isinstance(container, Container):
        device._own(container)
    device.set_master(True)
    return device

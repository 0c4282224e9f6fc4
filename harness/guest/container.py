# SPDX-License-Identifier: GPL-2.0-only
"""The legacy interface: groups in a container (drivers/vfio/group.c, container.c, vfio_iommu_type1.c)."""

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from .kernel import ioctl, named, open_file
from .memory import AddressSpace
from .resource import Resource
from .uapi import vfio as uapi

PAGE_FRAME = (1 << 55) - 1  # of an entry of pagemap


class Group(Resource):
    """An IOMMU group, open; ``noiommu`` groups have their own kind of device node."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self.number = Path(f"/sys/bus/pci/devices/{bdf}/iommu_group").readlink().name
        self.noiommu = Path(f"/dev/vfio/noiommu-{self.number}").exists()
        self.fd = open_file(f"/dev/vfio/{'noiommu-' if self.noiommu else ''}{self.number}")
        self._undo.callback(os.close, self.fd)

    def device(self, bdf: str) -> int:
        """VFIO_GROUP_GET_DEVICE_FD."""
        return ioctl(self.fd, uapi.GROUP_GET_DEVICE_FD, bytearray(bdf.encode() + b"\0"))


class Container(AddressSpace):
    """A container with one group in it, under the type1 IOMMU driver. It ends with its device."""

    IOMMU = uapi.TYPE1V2_IOMMU

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.fd = open_file("/dev/vfio/vfio")
        self._undo.callback(self._leave)
        self.group = self._own(group)
        ioctl(self.group.fd, uapi.GROUP_SET_CONTAINER, bytearray(self.fd.to_bytes(4, "little")))
        ioctl(self.fd, uapi.SET_IOMMU, self.IOMMU)

    def _leave(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)

    def map_memory(self, address: int, length: int, iova: int) -> None:
        """VFIO_IOMMU_MAP_DMA."""
        flags = uapi.DMA_MAP_FLAG_READ | uapi.DMA_MAP_FLAG_WRITE
        ioctl(self.fd, uapi.IOMMU_MAP_DMA, uapi.DmaMap(flags=flags, vaddr=address, iova=iova, size=length))

    def unmap(self, iova: int, length: int) -> int:
        """VFIO_IOMMU_UNMAP_DMA; returns the bytes unmapped, 0 once the container is closed, and all is unmapped."""
        if self.fd < 0:
            return 0
        request = uapi.DmaUnmap(iova=iova, size=length)
        ioctl(self.fd, uapi.IOMMU_UNMAP_DMA, request)
        return int(request.size)

    def attach(self, device_fd: int) -> None:
        """Nothing to do: a device of the group is attached from the start."""


class NoIommu(Container):
    """A container without an IOMMU: devices see physical addresses, and so all of memory."""

    IOMMU = uapi.NOIOMMU_IOMMU

    def share(self, address: int, length: int) -> Sequence[int]:
        """Lock the pages and look up where they are (Documentation/admin-guide/mm/pagemap.rst)."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(length)):
            raise OSError(ctypes.get_errno(), "cannot lock memory", "mlock")
        first, count = address // mmap.PAGESIZE, length // mmap.PAGESIZE
        with named("read /proc/self/pagemap"), Path("/proc/self/pagemap").open("rb", 0) as pagemap:
            entries = struct.unpack(f"<{count}Q", os.pread(pagemap.fileno(), 8 * count, 8 * first))
        return [(entry & PAGE_FRAME) * mmap.PAGESIZE for entry in entries]

    def unshare(self, pages: Sequence[int]) -> None:
        """Nothing to do: the pages are unlocked with their mapping."""


def open_container(bdf: str) -> Container:
    """A container with the group of the device at ``bdf``."""
    group = Group(bdf)
    return NoIommu(group) if group.noiommu else Container(group)

# SPDX-License-Identifier: GPL-2.0-only
"""The legacy interface: groups in a container (drivers/vfio/group.c, container.c, vfio_iommu_type1.c).

The container may be an iommufd (drivers/iommu/iommufd/vfio_compat.c).
"""

import os

from . import files
from .iommufd import Ioas, Iommufd
from .kernel import ioctl, open_file
from .memory import AddressSpace
from .resource import Resource
from .uapi import vfio as uapi


class Group(Resource):
    """An open IOMMU group. ``noiommu`` groups have a device node of another name."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self.number = files.target(f"/sys/bus/pci/devices/{bdf}/iommu_group")
        self.noiommu = files.exists(f"/dev/vfio/noiommu-{self.number}")
        self.fd = open_file(f"/dev/vfio/{'noiommu-' if self.noiommu else ''}{self.number}")
        self._undo.callback(os.close, self.fd)

    def enter(self, container: int) -> None:
        """Call VFIO_GROUP_SET_CONTAINER with the fd of a container, or of an iommufd."""
        ioctl(self.fd, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(container.to_bytes(4, "little")))

    def device(self, bdf: str) -> int:
        """Call VFIO_GROUP_GET_DEVICE_FD."""
        return ioctl(self.fd, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(bdf.encode() + b"\0"))


class Container(AddressSpace):
    """A container with one group, under the type1 IOMMU driver. Its device closes it."""

    IOMMU = uapi.VFIO_TYPE1v2_IOMMU

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self.fd = open_file("/dev/vfio/vfio")
        self._undo.callback(self._close_fd)
        self.group = self._own(Group(bdf))
        self.group.enter(self.fd)
        ioctl(self.fd, uapi.VFIO_SET_IOMMU, self.IOMMU)

    def _close_fd(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)

    def map_memory(self, address: int, length: int, iova: int) -> None:
        """Call VFIO_IOMMU_MAP_DMA."""
        flags = uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE
        ioctl(self.fd, uapi.VFIO_IOMMU_MAP_DMA, uapi.DmaMap(flags=flags, vaddr=address, iova=iova, size=length))

    def unmap(self, iova: int, length: int) -> int:
        """Call VFIO_IOMMU_UNMAP_DMA. Returns the bytes unmapped; 0 after the close, which unmaps everything."""
        if self.fd < 0:
            return 0
        request = uapi.DmaUnmap(iova=iova, size=length)
        ioctl(self.fd, uapi.VFIO_IOMMU_UNMAP_DMA, request)
        return int(request.size)

    def attach(self, device_fd: int) -> None:
        """Do nothing: the devices of the group are attached already."""


class GroupIoas(Ioas):
    """The address space of a group whose container is an iommufd."""

    def __init__(self, iommufd: Iommufd, bdf: str) -> None:
        group = Group(bdf)
        group.enter(iommufd.fd)
        ioctl(iommufd.fd, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
        super().__init__(iommufd, iommufd.compat_ioas())
        self.group = self._own(group)

    def attach(self, device_fd: int) -> None:
        """Do nothing: the devices of the group are attached already."""

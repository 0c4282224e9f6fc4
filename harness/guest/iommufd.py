# SPDX-License-Identifier: GPL-2.0-only
"""iommufd: contexts and IO address spaces (drivers/iommu/iommufd)."""

import os
from typing import TYPE_CHECKING

from .dmabuf import DmaBuf
from .kernel import ioctl, open_file
from .memory import AddressSpace
from .resource import Resource
from .uapi import iommufd as uapi
from .uapi import vfio

if TYPE_CHECKING:
    from .vfio import Device

READ_WRITE = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE


class Iommufd(Resource):
    """An open ``/dev/iommu``."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = open_file("/dev/iommu")
        self._undo.callback(os.close, self.fd)

    def ioas(self) -> "Ioas":
        """Make a new, empty IO address space."""
        return Ioas(self)

    def destroy(self, number: int) -> None:
        """Call IOMMU_DESTROY on the object ``number``."""
        ioctl(self.fd, uapi.IOMMU_DESTROY, uapi.Destroy(id=number))


class Ioas(AddressSpace):
    """An IO address space. Methods have the names and ``flags`` of the ioctls."""

    def __init__(self, iommufd: Iommufd) -> None:
        super().__init__()
        self.iommufd = iommufd
        alloc = uapi.IoasAlloc()
        ioctl(iommufd.fd, uapi.IOMMU_IOAS_ALLOC, alloc)
        self.number: int = alloc.out_ioas_id
        self._undo.callback(iommufd.destroy, self.number)

    def map_memory(self, address: int, length: int, iova: int) -> None:
        """Call IOMMU_IOAS_MAP at a fixed IOVA."""
        request = uapi.IoasMap(
            flags=READ_WRITE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
            ioas_id=self.number,
            user_va=address,
            length=length,
            iova=iova,
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_MAP, request)

    def map_file(
        self, dmabuf: DmaBuf, start: int, length: int, iova: int | None = None, flags: int = READ_WRITE
    ) -> int:
        """Call IOMMU_IOAS_MAP_FILE. Returns the IOVA. Errors: docs/contract.md, section 3."""
        iova = self.new_iova(length) if iova is None else iova
        request = uapi.IoasMapFile(
            flags=flags | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
            ioas_id=self.number,
            fd=dmabuf.fd,
            start=start,
            length=length,
            iova=iova,
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_MAP_FILE, request)
        return iova

    def copy(self, source: "Ioas", source_iova: int, length: int) -> int:
        """Call IOMMU_IOAS_COPY from ``source`` to this one. Returns the IOVA."""
        iova = self.new_iova(length)
        request = uapi.IoasCopy(
            flags=READ_WRITE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
            dst_ioas_id=self.number,
            src_ioas_id=source.number,
            length=length,
            dst_iova=iova,
            src_iova=source_iova,
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_COPY, request)
        return iova

    def unmap(self, iova: int, length: int) -> int:
        """Call IOMMU_IOAS_UNMAP. Returns the bytes unmapped."""
        request = uapi.IoasUnmap(ioas_id=self.number, iova=iova, length=length)
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_UNMAP, request)
        return int(request.length)

    def attach(self, device_fd: int) -> None:
        """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT. Replaces an earlier attachment of the device."""
        attach(device_fd, self.number)


class Domain(Resource):
    """Another domain over a device's address space (IOMMU_HWPT_ALLOC). ``close`` moves the device back out of it."""

    def __init__(self, device: "Device") -> None:
        super().__init__()
        space = device.space
        assert isinstance(space, Ioas)
        request = uapi.HwptAlloc(dev_id=device.number, pt_id=space.number)
        ioctl(space.iommufd.fd, uapi.IOMMU_HWPT_ALLOC, request)
        self._undo.callback(space.iommufd.destroy, request.out_hwpt_id)
        self._undo.callback(space.attach, device.fd)
        self._device = device
        self._number: int = request.out_hwpt_id

    def enter(self) -> None:
        """Move the device to this domain."""
        attach(self._device.fd, self._number)


def attach(device_fd: int, number: int) -> None:
    """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT on the page table or address space ``number``."""
    ioctl(device_fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.IommufdPt(pt_id=number))

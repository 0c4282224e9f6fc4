# SPDX-License-Identifier: GPL-2.0-only
"""iommufd: contexts and IO address spaces (drivers/iommu/iommufd)."""

import os
from typing import TYPE_CHECKING

from .kernel import ioctl, open_file
from .memory import AddressSpace
from .resource import File, Resource
from .uapi import iommufd as uapi
from .uapi import vfio

if TYPE_CHECKING:
    from .vfio import Device

READ_WRITE = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE


class Iommufd(Resource):
    """An open ``/dev/iommu``. ``rlimit_mode``: IOMMU_OPTION_RLIMIT_MODE, 1 to charge locked memory to the process."""

    def __init__(self, rlimit_mode: int = 0) -> None:
        super().__init__()
        self.fd = open_file("/dev/iommu")
        self._undo.callback(os.close, self.fd)
        if rlimit_mode:
            option = uapi.Option(
                option_id=uapi.IOMMU_OPTION_RLIMIT_MODE, op=uapi.IOMMU_OPTION_OP_SET, val64=rlimit_mode
            )
            ioctl(self.fd, uapi.IOMMU_OPTION, option)

    def ioas(self) -> "Ioas":
        """Make a new, empty IO address space."""
        return Ioas(self)

    def destroy(self, number: int) -> None:
        """Call IOMMU_DESTROY on the object ``number``."""
        ioctl(self.fd, uapi.IOMMU_DESTROY, uapi.Destroy(id=number))

    def compat_ioas(self) -> int:
        """Call IOMMU_VFIO_IOAS with IOMMU_VFIO_IOAS_GET. Returns the address space of the groups that are in here."""
        request = uapi.VfioIoas(op=uapi.IOMMU_VFIO_IOAS_GET)
        ioctl(self.fd, uapi.IOMMU_VFIO_IOAS, request)
        return int(request.ioas_id)

    def change_process(self, reserved: int = 0) -> None:
        """Call IOMMU_IOAS_CHANGE_PROCESS: move the accounting of every file map in the context to this process."""
        ioctl(self.fd, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.ChangeProcess(_reserved=reserved))


class Ioas(AddressSpace):
    """An IO address space. Methods have the names and ``flags`` of the ioctls.

    ``number``: that of one that ends with its context; None for a new one.
    """

    def __init__(self, iommufd: Iommufd, number: int | None = None) -> None:
        super().__init__()
        self.iommufd = iommufd
        if number is not None:
            self.number = number
            return
        alloc = uapi.IoasAlloc()
        ioctl(iommufd.fd, uapi.IOMMU_IOAS_ALLOC, alloc)
        self.number = alloc.out_ioas_id
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
        self,
        dmabuf: File,
        start: int,
        length: int,
        iova: int | None = None,
        flags: int = READ_WRITE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
    ) -> int:
        """Call IOMMU_IOAS_MAP_FILE, at an unused IOVA unless ``iova`` is given. Returns the IOVA.

        Errors: docs/contract.md, section 3.
        """
        request = uapi.IoasMapFile(
            flags=flags,
            ioas_id=self.number,
            fd=dmabuf.fd,
            start=start,
            length=length,
            iova=self._iova(iova, length, flags),
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_MAP_FILE, request)
        return int(request.iova)

    def copy(
        self,
        source: "Ioas",
        source_iova: int,
        length: int,
        iova: int | None = None,
        flags: int = READ_WRITE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA,
    ) -> int:
        """Call IOMMU_IOAS_COPY from ``source`` to this one, at an unused IOVA unless ``iova`` is given.

        Returns the IOVA. Errors: docs/contract.md, section 3.
        """
        request = uapi.IoasCopy(
            flags=flags,
            dst_ioas_id=self.number,
            src_ioas_id=source.number,
            length=length,
            dst_iova=self._iova(iova, length, flags),
            src_iova=source_iova,
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_COPY, request)
        return int(request.dst_iova)

    def _iova(self, iova: int | None, length: int, flags: int) -> int:
        """Return the IOVA to request. Without IOMMU_IOAS_MAP_FIXED_IOVA the kernel ignores it and chooses one."""
        if iova is None and flags & uapi.IOMMU_IOAS_MAP_FIXED_IOVA:
            return self.new_iova(length)
        return iova or 0

    def unmap(self, iova: int, length: int) -> int:
        """Call IOMMU_IOAS_UNMAP. Returns the bytes unmapped."""
        request = uapi.IoasUnmap(ioas_id=self.number, iova=iova, length=length)
        ioctl(self.iommufd.fd, uapi.IOMMU_IOAS_UNMAP, request)
        return int(request.length)

    def set_huge_pages(self, on: bool) -> None:
        """Set IOMMU_OPTION_HUGE_PAGES: whether the page tables may have larger pages than PAGE_SIZE."""
        request = uapi.Option(
            option_id=uapi.IOMMU_OPTION_HUGE_PAGES, op=uapi.IOMMU_OPTION_OP_SET, object_id=self.number, val64=on
        )
        ioctl(self.iommufd.fd, uapi.IOMMU_OPTION, request)

    def unmap_as_type1(self, iova: int, length: int) -> int:
        """Call VFIO_IOMMU_UNMAP_DMA through iommufd's compatibility layer (vfio_compat.c). Returns the bytes unmapped.

        Without huge pages it may unmap parts of an area, as VFIO_TYPE1_IOMMU does.
        """
        compat = uapi.VfioIoas(ioas_id=self.number, op=uapi.IOMMU_VFIO_IOAS_SET)
        ioctl(self.iommufd.fd, uapi.IOMMU_VFIO_IOAS, compat)
        request = vfio.DmaUnmap(iova=iova, size=length)
        ioctl(self.iommufd.fd, vfio.VFIO_IOMMU_UNMAP_DMA, request)
        return int(request.size)

    def domain(self, device: "Device") -> "Domain":
        """Make a domain over this address space, which the device does not enter."""
        return Domain(device, self)

    def attach(self, device_fd: int) -> None:
        """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT. Replaces an earlier attachment of the device."""
        attach(device_fd, self.number)


class Domain(Resource):
    """Another domain over ``space``, by default a device's own address space (IOMMU_HWPT_ALLOC with ``flags``).

    ``close`` moves the device back to its own address space.
    """

    def __init__(self, device: "Device", space: Ioas | None = None, flags: int = 0) -> None:
        super().__init__()
        home = device.space
        assert isinstance(home, Ioas)
        request = uapi.HwptAlloc(flags=flags, dev_id=device.number, pt_id=(space or home).number)
        ioctl(home.iommufd.fd, uapi.IOMMU_HWPT_ALLOC, request)
        self._undo.callback(home.iommufd.destroy, request.out_hwpt_id)
        self._undo.callback(home.attach, device.fd)
        self._device = device
        self._number: int = request.out_hwpt_id

    def enter(self) -> None:
        """Move the device to this domain."""
        attach(self._device.fd, self._number)

    def destroy(self) -> None:
        """Call IOMMU_DESTROY, and leave the device where it is, which is not here. ``close`` does nothing then."""
        home = self._device.space
        assert isinstance(home, Ioas)
        self._undo.pop_all()
        home.iommufd.destroy(self._number)


def attach(device_fd: int, number: int) -> None:
    """Call VFIO_DEVICE_ATTACH_IOMMUFD_PT on the page table or address space ``number``."""
    ioctl(device_fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.IommufdPt(pt_id=number))

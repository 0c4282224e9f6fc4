# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an iommufd IO address space, for calls that importers do not make."""

from typing import cast

from harness.session.client import Caller
from harness.session.device import DmaBuf
from harness.session.handle import Handle
from harness.session.wire import Ref

IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_READABLE = 1, 2, 4
"""``enum iommufd_ioas_map_flags`` (include/uapi/linux/iommufd.h)."""
READ_WRITE = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE


class Ioas(Handle):
    """An IO address space. The agent chooses the IOVAs and uses none twice."""

    def __init__(self, agent: Caller, iommufd: Ref, ref: Ref | None = None) -> None:
        """Wrap the address space ``ref`` of the context ``iommufd``, or make a new one."""
        super().__init__(agent, ref or agent.call(iommufd, "ioas"))
        self.iommufd = iommufd

    def sibling(self) -> "Ioas":
        """Make a new address space in the same context, with no device in it."""
        return Ioas(self.agent, self.iommufd)

    def map_file(
        self,
        dmabuf: DmaBuf,
        start: int = 0,
        length: int | None = None,
        *,
        at: int | None = None,
        flags: int = READ_WRITE,
        fixed: bool = True,
    ) -> int:
        """Call IOMMU_IOAS_MAP_FILE for ``length`` bytes (None: all) from ``start``. Returns the IOVA.

        ``at``: the IOVA; None for an unused one. ``fixed``: with IOMMU_IOAS_MAP_FIXED_IOVA; otherwise the kernel
        chooses. Errors: docs/contract.md, section 3.
        """
        length = dmabuf.size() - start if length is None else length
        flags |= IOMMU_IOAS_MAP_FIXED_IOVA if fixed else 0
        return cast(int, self._call("map_file", dmabuf=dmabuf, start=start, length=length, iova=at, flags=flags))

    def copy(
        self,
        source: "Ioas",
        iova: int | None,
        length: int,
        *,
        at: int | None = None,
        flags: int = READ_WRITE,
        fixed: bool = True,
    ) -> int:
        """Call IOMMU_IOAS_COPY for ``length`` bytes that ``source`` maps at ``iova``. Returns the IOVA here.

        ``at`` and ``fixed``: as ``map_file`` takes them.
        """
        flags |= IOMMU_IOAS_MAP_FIXED_IOVA if fixed else 0
        return cast(int, self._call("copy", source=source, source_iova=iova, length=length, iova=at, flags=flags))

    def unmap(self, iova: int, length: int) -> int:
        """Call IOMMU_IOAS_UNMAP. Returns the bytes unmapped."""
        return cast(int, self._call("unmap", iova=iova, length=length))

    def unmap_all(self) -> int:
        """Call IOMMU_IOAS_UNMAP for 0 to U64_MAX. Returns the bytes unmapped."""
        return self.unmap(0, (1 << 64) - 1)

    def unmap_as_type1(self, iova: int, length: int) -> int:
        """Call VFIO_IOMMU_UNMAP_DMA of iommufd's compatibility layer. Returns the bytes unmapped.

        Unlike IOMMU_IOAS_UNMAP it splits areas if the address space has no huge pages.
        """
        return cast(int, self._call("unmap_as_type1", iova=iova, length=length))

    def set_huge_pages(self, on: bool) -> None:
        """Set IOMMU_OPTION_HUGE_PAGES. KernelErrno EINVAL if a domain already has areas."""
        self._call("set_huge_pages", on=on)

    def change_process(self, *, reserved: int = 0) -> None:
        """Call IOMMU_IOAS_CHANGE_PROCESS for the whole context. ``reserved``: the member ``__reserved``."""
        self.agent.call(self.iommufd, "change_process", reserved=reserved)

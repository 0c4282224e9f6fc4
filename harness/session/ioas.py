# SPDX-License-Identifier: GPL-2.0-only
"""Handle on an iommufd IO address space, for calls that importers do not make."""

from typing import cast

from harness.session.client import Agent
from harness.session.device import DmaBuf
from harness.session.handle import Handle
from harness.session.wire import Ref

IOMMU_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_READABLE = 2, 4
"""IOMMU_IOAS_MAP_WRITEABLE and _READABLE (include/uapi/linux/iommufd.h)."""


class Ioas(Handle):
    """An IO address space. The agent chooses the IOVAs and uses none twice."""

    def __init__(self, agent: Agent, iommufd: Ref, ref: Ref | None = None) -> None:
        """Wrap the address space ``ref`` of the context ``iommufd``, or make a new one."""
        super().__init__(agent, ref or agent.call(iommufd, "ioas"))
        self._iommufd = iommufd

    def sibling(self) -> "Ioas":
        """Make a new address space in the same context, with no device in it."""
        return Ioas(self.agent, self._iommufd)

    def map_file(
        self,
        dmabuf: DmaBuf,
        start: int = 0,
        length: int | None = None,
        *,
        flags: int = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
    ) -> int:
        """Call IOMMU_IOAS_MAP_FILE for ``length`` bytes (None: all) from ``start``. Returns the IOVA.

        Errors: docs/contract.md, section 3.
        """
        length = dmabuf.size() - start if length is None else length
        return cast(int, self._call("map_file", dmabuf=dmabuf, start=start, length=length, flags=flags))

    def copy(self, source: "Ioas", iova: int | None, length: int) -> int:
        """Call IOMMU_IOAS_COPY for ``length`` bytes that ``source`` maps at ``iova``. Returns the IOVA here."""
        return cast(int, self._call("copy", source=source, source_iova=iova, length=length))

    def unmap(self, iova: int, length: int) -> int:
        """Call IOMMU_IOAS_UNMAP. Returns the bytes unmapped."""
        return cast(int, self._call("unmap", iova=iova, length=length))

# SPDX-License-Identifier: GPL-2.0-only
"""An NVMe controller without a driver, as an importer behind the kernel's DMA API.

The agent programs its registers through sysfs. All of its DMA addresses come from the DMA API, through attachments of
the test importer. Unlike edu, whose DMA takes 0.1 s, it starts a DMA microseconds after its doorbell.
"""

import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from . import pci
from .config_space import COMMAND, COMMAND_MASTER, COMMAND_MEMORY
from .dmabuf import from_memfd
from .importer import Attachment, DmaApiEngine, DmaApiWindow
from .kernel import open_file
from .memory import AddressSpace
from .mmio import Mapping as BarMapping
from .nvme import BAR, NvmeDma
from .nvme_spec import REGISTERS
from .pci import DEVICES
from .resource import Resource


class DmaApiSpace(AddressSpace):
    """The DMA API's address space of the device at ``bdf``. Memory stays mapped while it is shared."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self._bdf = bdf
        self._shared: dict[int, tuple[Attachment, Resource]] = {}

    def share(self, file: int, address: int, length: int) -> Sequence[int]:
        """Map the memfd through a static attachment. RuntimeError if its DMA addresses are not contiguous."""
        buffer = self._own(from_memfd(file, length))
        attachment = self._own(Attachment(self._bdf, buffer, static=True))
        attachment.map()
        entries = attachment.table()["entries"]
        start = end = int(entries[0]["address"])
        for entry in entries:
            if entry["address"] != end:
                raise RuntimeError("the DMA API mapped memory in pieces that are not adjacent")
            end += entry["length"]
        self._shared[start] = attachment, buffer
        return range(start, start + length, mmap.PAGESIZE)

    def unshare(self, pages: Sequence[int]) -> None:
        """Unmap the memory."""
        for part in self._shared.pop(pages[0]):
            part.close()

    def map_memory(self, address: int, length: int, iova: int) -> None:
        """Refuse: the DMA API chooses the address."""
        raise NotImplementedError

    def unmap(self, iova: int, length: int) -> int:
        """Refuse, as ``map_memory`` does."""
        raise NotImplementedError

    def attach(self, device_fd: int) -> None:
        """Do nothing: a device without a driver is in its default domain."""


class SysfsFunction(Resource):
    """A function without a driver, with memory and bus mastering enabled until it is closed. Only BAR0 is mapped."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        pci.unbind(bdf)
        self.space: AddressSpace = self._own(DmaApiSpace(bdf))
        config = self._undo.enter_context(pci.config_space(bdf))
        self._undo.callback(config.write, COMMAND, config.read(COMMAND, 2))
        config.set_word(COMMAND, 0, COMMAND_MEMORY | COMMAND_MASTER)
        fd = open_file(f"{DEVICES}/{bdf}/resource0")
        self._undo.callback(os.close, fd)
        self._registers = self._own(BarMapping(fd, 0, REGISTERS))
        self._bdf = bdf

    def reset(self) -> None:
        """Reset the function by its ``reset`` file."""
        pci.reset(self._bdf)

    def read32(self, region: int, offset: int) -> int:
        """Read 4 bytes of BAR0."""
        assert region == BAR
        return self._registers.load(offset, 4)

    def write32(self, region: int, offset: int, value: int) -> None:
        """Write 4 bytes of BAR0."""
        assert region == BAR
        self._registers.store(offset, 4, value)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write dwords of BAR0."""
        for at in range(0, len(data), 4):
            self.write32(region, offset + at, struct.unpack_from("<I", data, at)[0])

    def region_info(self, index: int) -> dict[str, int]:
        """Return the size of BAR0's mapped part."""
        assert index == BAR
        return {"size": REGISTERS}


class DmaApiNvme(NvmeDma, DmaApiEngine):
    """A controller behind the kernel's DMA API, which no driver has bound."""

    def __init__(self, bdf: str) -> None:
        function = SysfsFunction(bdf)
        super().__init__(function)
        self._own(function)
        self._found(bdf)

    def window(self, attachment: Attachment, start: int, length: int) -> "DmaApiNvmeWindow":
        """Make a window of a mapped attachment of this device."""
        return DmaApiNvmeWindow(self, attachment, start, length)


class DmaApiNvmeWindow(DmaApiWindow):
    """A window that can also start a write at once after a call."""

    def __init__(self, engine: DmaApiNvme, attachment: Attachment, start: int, length: int) -> None:
        super().__init__(engine, attachment, start, length)
        self._nvme = engine

    def store32_after(self, offset: int, value: int, on: Any, do: str, args: Mapping[str, Any]) -> None:
        """Call ``do`` of the object ``on``, and let the device store the dword as soon as the call has returned."""
        ((address, _),) = self._pieces(offset, 4)
        self._nvme.dma_write_after(address, struct.pack("<I", value), lambda: getattr(on, do)(**args))


def open_nvme(bdf: str) -> DmaApiNvme:
    """Take the controller at ``bdf`` from its driver."""
    return DmaApiNvme(bdf)

# SPDX-License-Identifier: GPL-2.0-only
"""Drive the test importer (guest-images/importer), a kernel module that attaches any PCI device to a dma-buf."""

import ctypes
import os
import re
from collections.abc import Mapping
from typing import Any

from . import files, pci
from .dmabuf import DmaBuf
from .edu import Edu
from .engine import Engine, Window
from .fail_nth import each_failing, refusal
from .kernel import Ioctl, close_file, ioctl, load_module, open_file
from .resource import Resource
from .rpc import Refused
from .uapi import importer as uapi

MODULE = "vfio_harness_importer"
NODE = "/dev/vfio-harness-importer"
DRIVER = "vfio-harness-importer"
USAGES = {
    "kernel": uapi.DMA_RESV_USAGE_KERNEL,
    "write": uapi.DMA_RESV_USAGE_WRITE,
    "read": uapi.DMA_RESV_USAGE_READ,
    "bookkeep": uapi.DMA_RESV_USAGE_BOOKKEEP,
}
DIRECTIONS = {
    "both": uapi.DMA_BIDIRECTIONAL,
    "to-device": uapi.DMA_TO_DEVICE,
    "from-device": uapi.DMA_FROM_DEVICE,
}
UMEM_KINDS = {
    "revocable": (uapi.IMPORTER_UMEM_REVOCABLE, "ib_umem_dmabuf_get_pinned_revocable_and_lock"),
    "pinned": (uapi.IMPORTER_UMEM_PINNED, "ib_umem_dmabuf_get_pinned"),
    "dynamic": (uapi.IMPORTER_UMEM_DYNAMIC, "ib_umem_dmabuf_get"),
}
MAP_PAGES = Ioctl("ib_umem_dmabuf_map_pages", uapi.IMPORTER_MAP.number)
UNMAP_PAGES = Ioctl("ib_umem_dmabuf_unmap_pages", uapi.IMPORTER_UNMAP.number)
KINDS = {uapi.IMPORTER_NOTIFIED: "notified", uapi.IMPORTER_MAPPED: "mapped", uapi.IMPORTER_UNMAPPED: "unmapped"}


def open_node() -> int:
    """Open the importer's device node; load the module first if needed."""
    if not files.exists(NODE):
        load_module(MODULE)
    return open_file(NODE)


def _address(bdf: str) -> int:
    """Convert ``0000:01:00.0`` to ``importer_attach.device``."""
    domain, bus, slot, function = (int(part, 16) for part in re.split("[:.]", bdf))
    return domain << 16 | bus << 8 | slot << 3 | function


class Importing(Resource):
    """An open file of the test importer: an attachment, or a buffer of the RDMA core."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = open_node()
        self._undo.callback(self._leave)

    def _start(self, request: Ioctl, argument: Any) -> None:
        try:
            ioctl(self.fd, request, argument)
        except OSError:
            self.close()
            raise

    def _leave(self) -> None:
        fd, self.fd = self.fd, -1
        close_file(fd, "importer")

    def detach(self) -> None:
        """Unmap and unpin as needed, then dma_buf_detach."""
        ioctl(self.fd, uapi.IMPORTER_DETACH)

    def table(self, capacity: int = 1024) -> dict[str, Any]:
        """Read the mapping's SG table: ``nents``, ``orig_nents``, and up to ``capacity`` of its ``entries``."""
        entries = (uapi.SgEntry * capacity)()
        table = uapi.SgTable(entries=ctypes.addressof(entries), capacity=capacity)
        ioctl(self.fd, uapi.IMPORTER_TABLE, table)
        found = [_entry(entry) for entry in entries[: min(capacity, table.nents)]]
        return {"nents": table.nents, "orig_nents": table.orig_nents, "entries": found}

    def log(self) -> dict[str, Any]:
        """Read the log: ``notified``, the number of callbacks; ``mapped``; and the first 256 ``events``."""
        events = (uapi.AttachmentEvent * uapi.IMPORTER_EVENTS)()
        log = self._log(ctypes.addressof(events), uapi.IMPORTER_EVENTS)
        found = [
            {"kind": KINDS[event.kind], "at": event.time_ns / 1e9, "result": event.result, "task": event.task}
            for event in events[: min(uapi.IMPORTER_EVENTS, log.event_count)]
        ]
        return {"notified": log.notified, "mapped": bool(log.mapped), "events": found}

    def wait_notified(self, count: int, seconds: float) -> bool:
        """Return whether the callback has run ``count`` times in all within ``seconds``."""
        return ioctl(self.fd, uapi.IMPORTER_WAIT, uapi.Wait(notified=count, timeout_ms=int(seconds * 1000))) > 0

    def _log(self, events: int = 0, capacity: int = 0) -> Any:
        log = uapi.Log(events=events, capacity=capacity)
        ioctl(self.fd, uapi.IMPORTER_LOG, log)
        return log


class Umem(Importing):
    """``length`` bytes of ``file`` from ``offset``, imported by the RDMA core for the device at ``bdf``.

    ``file``: a dma-buf's fd, or any other for a refusal. ``kind``: a key of UMEM_KINDS. ``access``: enum
    ib_access_flags. Without ``bdf``, for a device that is not PCI. Errors are those of the RDMA core.
    """

    def __init__(
        self, bdf: str | None, file: DmaBuf | int, *, offset: int, length: int, kind: str, access: int
    ) -> None:
        super().__init__()
        number, function = UMEM_KINDS[kind]
        request = uapi.Umem(
            offset=offset,
            length=length,
            fd=file if isinstance(file, int) else file.fd,
            device=_address(bdf) if bdf else 0,
            flags=0 if bdf else uapi.IMPORTER_NOT_PCI,
            kind=number,
            access=access,
        )
        self._start(Ioctl(function, uapi.IMPORTER_UMEM), request)

    def map(self) -> None:
        """Call ib_umem_dmabuf_map_pages."""
        ioctl(self.fd, MAP_PAGES, uapi.DMA_BIDIRECTIONAL)

    def unmap(self) -> None:
        """Call ib_umem_dmabuf_unmap_pages."""
        ioctl(self.fd, UNMAP_PAGES)

    def revoke(self) -> None:
        """Call ib_umem_dmabuf_revoke, as a driver does on its own."""
        ioctl(self.fd, uapi.IMPORTER_REVOKE)


class Attachment(Importing):
    """The device at ``bdf`` attached to ``dmabuf``; without ``bdf``, a device that is not PCI.

    ``dmabuf`` may be the fd of any file, for a refusal. The other arguments choose the flags in
    guest-images/importer/uapi.h. ``static`` excludes the rest. Errors are those of the dma-buf core.
    """

    def __init__(
        self,
        bdf: str | None,
        dmabuf: DmaBuf | int,
        *,
        static: bool = False,
        peer2peer: bool = True,
        callback: bool = True,
        remap: bool = False,
        delay_ms: int = 0,
        unlocked: bool = False,
    ) -> None:
        super().__init__()
        if static:
            flags = uapi.IMPORTER_STATIC
        else:
            flags = _flags(
                {
                    uapi.IMPORTER_PEER2PEER: peer2peer,
                    uapi.IMPORTER_CALLBACK: callback,
                    uapi.IMPORTER_REMAP: remap,
                    uapi.IMPORTER_NOT_PCI: bdf is None,
                    uapi.IMPORTER_UNLOCKED: unlocked,
                }
            )
        fd = dmabuf if isinstance(dmabuf, int) else dmabuf.fd
        device = _address(bdf) if bdf else 0
        self._start(uapi.IMPORTER_ATTACH, uapi.Attach(fd=fd, device=device, flags=flags, delay_ms=delay_ms))

    def map(self, direction: str = "both") -> None:
        """Call dma_buf_map_attachment. ``direction``: a key of DIRECTIONS."""
        ioctl(self.fd, uapi.IMPORTER_MAP, DIRECTIONS[direction])

    def unmap(self) -> None:
        """Call dma_buf_unmap_attachment; EBADFD without a mapping."""
        ioctl(self.fd, uapi.IMPORTER_UNMAP)

    def cycle(self, count: int) -> None:
        """Map and unmap ``count`` times."""
        for _ in range(count):
            self.map()
            self.unmap()

    def map_without_memory(self, times: int) -> list[int]:
        """Fail the first allocation of a map, then the second, and so on, ``times`` times each.

        Returns 0 or ``-errno`` for each allocation.
        """
        return each_failing(lambda: refusal(lambda: self.cycle(1)), times)

    def pin(self) -> None:
        """Call dma_buf_pin."""
        ioctl(self.fd, uapi.IMPORTER_PIN)

    def unpin(self) -> None:
        """Call dma_buf_unpin."""
        ioctl(self.fd, uapi.IMPORTER_UNPIN)

    def release(self) -> None:
        """End the delay between the callback and the unmap."""
        ioctl(self.fd, uapi.IMPORTER_RELEASE)

    def fence(self, usage: str) -> None:
        """Put an unsignalled fence on the buffer. ``usage``: a key of USAGES."""
        ioctl(self.fd, uapi.IMPORTER_FENCE, USAGES[usage])

    def signal(self) -> None:
        """Signal that fence."""
        ioctl(self.fd, uapi.IMPORTER_SIGNAL)

    def mapped(self) -> bool:
        """Return whether there is a mapping. A closed attachment has none."""
        return self.fd >= 0 and bool(self._log().mapped)


def attach_repeatedly(bdf: str, dmabuf: DmaBuf, times: int, *, static: bool, peer2peer: bool) -> list[int]:
    """Attach and close ``times`` times. Returns the different errnos; 0 for success."""
    outcomes = set()
    for _ in range(times):
        try:
            Attachment(bdf, dmabuf, static=static, peer2peer=peer2peer).close()
        except OSError as refusal:
            outcomes.add(refusal.errno or 0)
        else:
            outcomes.add(0)
    return sorted(outcomes)


def _flags(chosen: Mapping[int, bool]) -> int:
    return sum(flag for flag, on in chosen.items() if on)


def _entry(entry: Any) -> dict[str, Any]:
    fields: dict[str, Any] = entry.as_dict()
    flags = fields.pop("flags")
    return fields | {"page": bool(flags & uapi.IMPORTER_ENTRY_PAGE), "last": bool(flags & uapi.IMPORTER_ENTRY_LAST)}


class DmaApiEngine(Engine):
    """A device behind the kernel's DMA API. The test importer attaches it to buffers.

    A subclass binds the device to its driver, or unbinds it, and calls ``_found``.
    """

    bdf: str

    def _found(self, bdf: str) -> None:
        self.bdf = bdf
        self.windows: list[DmaApiWindow] = []
        self.translated = pci.translated(bdf)

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "DmaApiWindow":
        attachment = Attachment(self.bdf, dmabuf)
        attachment.map()
        window = self.window(attachment, start, length)
        window._own(attachment)
        return window

    def window(self, attachment: Attachment, start: int, length: int) -> "DmaApiWindow":
        """Make a window of a mapped attachment of this device."""
        return DmaApiWindow(self, attachment, start, length)


class DmaApiEdu(Edu, DmaApiEngine):
    """An edu device behind the kernel's DMA API, bound to the test importer's own driver."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self.fd = open_node()
        self._undo.callback(os.close, self.fd)
        pci.bind(bdf, DRIVER)
        self._undo.callback(pci.unbind, bdf)  # the driver holds a DMA buffer
        self._found(bdf)

    def _fill(self, data: bytes) -> None:
        memory = ctypes.create_string_buffer(data, len(data))
        self._run(uapi.IMPORTER_EDU_LOAD, 0, len(data), ctypes.addressof(memory))

    def _drain(self, count: int) -> bytes:
        memory = ctypes.create_string_buffer(count)
        self._run(uapi.IMPORTER_EDU_STORE, 0, count, ctypes.addressof(memory))
        return memory.raw

    def _write(self, offset: int, iova: int, count: int) -> None:
        self._run(uapi.IMPORTER_EDU_WRITE, offset, count, iova)

    def _read(self, iova: int, count: int) -> None:
        self._run(uapi.IMPORTER_EDU_READ, 0, count, iova)

    def _run(self, op: int, offset: int, length: int, data: int) -> None:
        ioctl(
            self.fd,
            uapi.IMPORTER_EDU,
            uapi.Edu(device=_address(self.bdf), op=op, offset=offset, length=length, data=data),
        )


class DmaApiWindow(Window):
    """A window through the DMA addresses that its mapping had when the window was made.

    After a revoke these addresses are stale, and the DMA API may give them to another mapping. A transfer to a stale
    address raises Refused if another window now has that address, or if no IOMMU would block the transfer. Otherwise
    the device tries it.
    """

    def __init__(self, engine: DmaApiEngine, attachment: Attachment, start: int, length: int) -> None:
        super().__init__()
        self._engine = engine
        self._attachment = attachment
        self._start = start
        self.areas = [(entry["address"], entry["length"]) for entry in attachment.table()["entries"]]
        engine.windows.append(self)
        self._undo.callback(engine.windows.remove, self)

    def iova(self) -> int | None:
        return self._pieces(0, 1)[0][0]

    def write(self, offset: int, data: bytes) -> None:
        done = 0
        for address, count in self._pieces(offset, len(data)):
            self._check(address)
            self._engine.dma_write(address, data[done : done + count])
            done += count
        if not (self._engine.translated or self.mapped()):
            raise Refused("revoked during the DMA, and no IOMMU shows whether the data arrived")

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        for address, count in self._pieces(offset, length):
            self._check(address)
            parts.append(self._engine.dma_read(address, count))
        return b"".join(parts)

    def mapped(self) -> bool:
        """Return whether the addresses still belong to this window's mapping."""
        return self._attachment.mapped()

    def _check(self, address: int) -> None:
        if self.mapped():
            return
        if not self._engine.translated:
            raise Refused("revoked, and no IOMMU would block the stale DMA address")
        if any(
            base <= address < base + size
            for other in self._engine.windows
            if other.mapped()
            for base, size in other.areas
        ):
            raise Refused("revoked, and another mapping now has its DMA address")

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        """List the DMA addresses and lengths of this part of the window."""
        at, pieces = self._start + offset, []
        for address, size in self.areas:
            if length and at < size:
                count = min(length, size - at)
                pieces.append((address + at, count))
                length -= count
                at += count
            at -= size
        if length:
            raise ValueError(f"{length} bytes are beyond the buffer")
        return pieces


def open_edu(bdf: str) -> DmaApiEdu:
    """Bind the edu at ``bdf`` to the test importer's driver."""
    return DmaApiEdu(bdf)

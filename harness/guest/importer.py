# SPDX-License-Identifier: GPL-2.0-only
"""The test importer, a kernel module of ours (guest-images/importer): attachments of any PCI device to a dma-buf."""

import ctypes
import os
import re
from typing import Any

from . import pci
from .dmabuf import DmaBuf
from .edu import Edu
from .engine import Window
from .failslab import each_failing
from .kernel import ioctl, load_module, open_file
from .poll import poll
from .resource import Resource
from .rpc import Refused
from .uapi import importer as uapi

MODULE = "vfio_harness_importer"
NODE = "/dev/vfio-harness-importer"
DRIVER = "vfio-harness-importer"
USAGES = {
    "kernel": uapi.USAGE_KERNEL, "write": uapi.USAGE_WRITE, "read": uapi.USAGE_READ, "bookkeep": uapi.USAGE_BOOKKEEP,
}  # fmt: skip
KINDS = {uapi.NOTIFIED: "notified", uapi.MAPPED: "mapped", uapi.UNMAPPED: "unmapped"}


def _open() -> int:
    """The importer's file, its module loaded."""
    if not os.path.exists(NODE):  # noqa: PTH110
        load_module(MODULE)
    return open_file(NODE)


def _address(bdf: str) -> int:
    """``0000:01:00.0`` as the module takes it."""
    domain, bus, slot, function = (int(part, 16) for part in re.split("[:.]", bdf))
    return domain << 16 | bus << 8 | slot << 3 | function


class Attachment(Resource):
    """The device at ``bdf``, or one that is not PCI, attached to ``dmabuf``. Errors are those of the dma-buf core."""

    def __init__(
        self,
        bdf: str | None,
        dmabuf: DmaBuf,
        *,
        static: bool = False,
        peer2peer: bool = True,
        callback: bool = True,
        remap: bool = False,
        delay_ms: int = 0,
        rdma: bool = False,
    ) -> None:
        super().__init__()
        self.fd = _open()
        self._undo.callback(self._leave)
        flags = uapi.PEER2PEER * peer2peer | uapi.CALLBACK * callback | uapi.REMAP * remap
        flags |= uapi.NOT_PCI * (bdf is None)
        if static or rdma:
            flags = uapi.STATIC if static else uapi.RDMA
        device = _address(bdf) if bdf else 0
        request = uapi.Attach(fd=dmabuf.fd, device=device, flags=flags, delay_ms=delay_ms)
        try:
            ioctl(self.fd, uapi.ATTACH, request)
        except OSError:
            self.close()
            raise

    def _leave(self) -> None:
        fd, self.fd = self.fd, -1
        os.close(fd)

    def map(self, direction: int = uapi.DMA_BIDIRECTIONAL) -> None:
        """dma_buf_map_attachment."""
        ioctl(self.fd, uapi.MAP, direction)

    def unmap(self) -> None:
        """dma_buf_unmap_attachment; EBADFD without a mapping."""
        ioctl(self.fd, uapi.UNMAP)

    def cycle(self, count: int) -> None:
        """Map and unmap, ``count`` times."""
        for _ in range(count):
            self.map()
            self.unmap()

    def map_without_memory(self, times: int) -> list[int]:
        """0, or ``-errno``, of maps with the first, second... allocation failing, each ``times`` times."""

        def attempt() -> int:
            try:
                self.cycle(1)
            except OSError as exc:
                return -int(exc.errno or 0)
            return 0

        return each_failing(attempt, times)

    def pin(self) -> None:
        """dma_buf_pin."""
        ioctl(self.fd, uapi.PIN)

    def unpin(self) -> None:
        """dma_buf_unpin."""
        ioctl(self.fd, uapi.UNPIN)

    def detach(self) -> None:
        """dma_buf_detach, after what is left to undo."""
        ioctl(self.fd, uapi.DETACH)

    def release(self) -> None:
        """End the delay between being told and unmapping."""
        ioctl(self.fd, uapi.RELEASE)

    def fence(self, usage: str) -> None:
        """Put an unsignalled fence on the buffer: ``kernel``, ``write``, ``read`` or ``bookkeep``."""
        ioctl(self.fd, uapi.FENCE, USAGES[usage])

    def signal(self) -> None:
        """Signal it."""
        ioctl(self.fd, uapi.SIGNAL)

    def table(self, room: int = 1024) -> dict[str, Any]:
        """The mapping's SG table: ``nents``, ``orig_nents``, and up to ``room`` of its ``entries``."""
        entries = (uapi.Entry * room)()
        table = uapi.Table(entries=ctypes.addressof(entries), room=room)
        ioctl(self.fd, uapi.TABLE, table)
        found = [_entry(entry) for entry in entries[: min(room, table.nents)]]
        return {"nents": table.nents, "orig_nents": table.orig_nents, "entries": found}

    def log(self) -> dict[str, Any]:
        """``told``, the number of callbacks; ``mapped``; and the first 256 ``events``."""
        events = (uapi.Event * uapi.EVENTS)()
        log = self._log(ctypes.addressof(events), uapi.EVENTS)
        found = [
            {"kind": KINDS[event.kind], "at": event.time_ns / 1e9, "result": event.result, "task": event.task}
            for event in events[: min(uapi.EVENTS, log.happened)]
        ]
        return {"notified": log.notified, "mapped": bool(log.mapped), "events": found}

    def mapped(self) -> bool:
        """Whether there is a mapping; there is none once this is closed."""
        return self.fd >= 0 and bool(self._log().mapped)

    def wait_notified(self, count: int, seconds: float) -> bool:
        """Whether it has been told ``count`` times, within ``seconds``."""
        return poll(lambda: self._log().notified >= count, seconds)

    def _log(self, events: int = 0, room: int = 0) -> Any:
        log = uapi.Log(events=events, room=room)
        ioctl(self.fd, uapi.LOG, log)
        return log


def _entry(entry: Any) -> dict[str, Any]:
    fields: dict[str, Any] = entry.as_dict()
    flags = fields.pop("flags")
    return fields | {"page": bool(flags & uapi.ENTRY_PAGE), "last": bool(flags & uapi.ENTRY_LAST)}


class DmaApiEdu(Edu):
    """``edu`` behind the kernel's DMA API: its driver is the test importer."""

    def __init__(self, bdf: str) -> None:
        super().__init__()
        self.fd = _open()
        self._undo.callback(os.close, self.fd)
        self.bdf = bdf
        self.windows: list[DmaApiWindow] = []
        pci.bind(bdf, DRIVER)
        self.translated = pci.translated(bdf)

    def attach(self, dmabuf: DmaBuf, start: int, length: int) -> "DmaApiWindow":
        attachment = Attachment(self.bdf, dmabuf)
        attachment.map()
        window = self.window(attachment, start, length)
        window._own(attachment)
        return window

    def window(self, attachment: Attachment, start: int, length: int) -> "DmaApiWindow":
        """What this device sees of an attachment of its own that is mapped."""
        return DmaApiWindow(self, attachment, start, length)

    def _fill(self, data: bytes) -> None:
        room = ctypes.create_string_buffer(data, len(data))
        self._run(uapi.EDU_LOAD, 0, len(data), ctypes.addressof(room))

    def _drain(self, count: int) -> bytes:
        room = ctypes.create_string_buffer(count)
        self._run(uapi.EDU_STORE, 0, count, ctypes.addressof(room))
        return room.raw

    def _write(self, offset: int, iova: int, count: int) -> None:
        self._run(uapi.EDU_WRITE, offset, count, iova)

    def _read(self, iova: int, count: int) -> None:
        self._run(uapi.EDU_READ, 0, count, iova)

    def _run(self, op: int, offset: int, length: int, data: int) -> None:
        ioctl(self.fd, uapi.EDU, uapi.Edu(device=_address(self.bdf), op=op, offset=offset, length=length, data=data))


class DmaApiWindow(Window):
    """A window through DMA addresses, which stay what they were when it was made: after a revoke they are stale.

    The DMA API gives an address out again once it is free. A transfer by a stale one raises Refused if it has become
    that of another window, as it must not be tried then, or if no IOMMU would block it; else it is tried.
    """

    def __init__(self, engine: DmaApiEdu, attachment: Attachment, start: int, length: int) -> None:
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
            raise Refused("revoked while its DMA was under way, and no IOMMU to say what became of it")

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        for address, count in self._pieces(offset, length):
            self._check(address)
            parts.append(self._engine.dma_read(address, count))
        return b"".join(parts)

    def mapped(self) -> bool:
        """Whether its addresses are still its own."""
        return self._attachment.mapped()

    def _check(self, address: int) -> None:
        if self.mapped():
            return
        if not self._engine.translated:
            raise Refused("revoked, and no IOMMU is in the way of its DMA address")
        if any(
            base <= address < base + size
            for other in self._engine.windows
            if other.mapped()
            for base, size in other.areas
        ):
            raise Refused("revoked, and its DMA address has been given to another mapping")

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int]]:
        """The DMA addresses and lengths that make up this part of the window."""
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
    """The edu at ``bdf``, taken from whatever driver it has."""
    return DmaApiEdu(bdf)

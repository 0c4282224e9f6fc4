# SPDX-License-Identifier: GPL-2.0-only
"""Judge areas of an iommufd address space by DMA through them and by the IOMMU's page table."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cases.constants import PAGE
from harness.cases.must import must
from harness.session import Device, DmaBuf, Importer, PageTableEntry, Session, Window
from harness.witness import Watch
from harness.witness.iommu_faults import Mark

EDGE = 4
"""Bytes that a DMA moves at each end of a page."""
MARKER = b"\xa5\x5a\xc3\x3c"


@dataclass(frozen=True)
class Areas:
    """The areas of an importer's address space that map ``buffer``, a buffer of one range of ``exporter``.

    The importer's DMA is one observer. The others: the exporter's memory as vfio reads it, the faults that QEMU's IOMMU
    reports, and the page table of the importer's device if the kernel dumps it.
    """

    session: Session
    importer: Importer
    exporter: Device
    buffer: DmaBuf
    watch: Watch

    def must_be_live(
        self, window: Window, sentence: str, *, read: bool = True, write: bool = True, size: int = PAGE
    ) -> None:
        """State that the window reaches its part of the buffer, and is allowed what ``read`` and ``write`` say.

        DMA tries both ends. The page table shows each page, of ``size`` bytes.

        Once an access that is allowed has filled its IOTLB, QEMU's VT-d reports no fault for one that is not
        (hw/i386/intel_iommu.c, vtd_do_iommu_translate). So the refused accesses come first, in each domain.
        """
        places = (0, window.length - EDGE)
        for at in places:
            if not read:
                self._must_not_read(window, at, sentence)
            if not write:
                self._must_not_write(window, at, sentence)
        for at in places:
            if read:
                self._must_read(window, at, sentence)
            if write:
                self._must_write(window, at, sentence)
        seen = self.entries(window)
        if seen is not None:
            base, offset = self._base(window), self._offset(window)
            wanted = [PageTableEntry(base + at, offset + at, size, read, write) for at in range(0, window.length, size)]
            must(seen == wanted, f"{sentence}: the page table says so", seen)

    def must_be_dead(self, window: Window, sentence: str) -> None:
        """State that the window reaches nothing: DMA faults, and the page table has no entry for it.

        DMA tries to read at the start and to write at the end. The page table shows each page.
        """
        self._must_not_read(window, 0, sentence)
        self._must_not_write(window, window.length - EDGE, sentence)
        must(not (seen := self.entries(window)), f"{sentence}: the page table has no entry", seen)

    def must_be_mapped(self, ranges: Sequence[tuple[int, int]], sentence: str) -> None:
        """State that the page table has entries for just these ranges of the buffer: offset and length, by IOVA."""
        seen = self.entries()
        if seen is not None:
            found = [(entry.offset - self._start, entry.size) for entry in seen]
            must(found == list(ranges), f"{sentence}: the page table says so", seen)

    def entries(self, window: Window | None = None) -> list[PageTableEntry] | None:
        """List the page table's entries for a window, or for any part of the buffer.

        None if the kernel does not dump the table.
        """
        found = self.session.page_table_entries(self.importer, self.exporter, self.buffer)
        if found is None or window is None:
            return found
        base = self._base(window)
        return [entry for entry in found if entry.iova < base + window.length and base < entry.iova + entry.size]

    @property
    def _start(self) -> int:
        """Where the buffer begins in the BAR."""
        ((start, _),) = self.buffer.ranges
        return start

    def _base(self, window: Window) -> int:
        base = window.iova()
        assert base is not None, "iommufd importers have IOVAs"
        return base

    def _offset(self, window: Window) -> int:
        """Return where the window begins in the BAR."""
        return self._start + window.start

    def _content(self, window: Window, at: int) -> bytes:
        return self.exporter.read(self.buffer.region, self._offset(window) + at, EDGE)

    def _faults(self, mark: Mark, *, write: bool) -> list[str]:
        """Return the faults of the importer's device in one direction, or in an unknown one, since ``mark``."""
        faults = self.watch.faults(mark)
        return [str(fault) for fault in faults if fault.device == self.importer.bdf and fault.write in (write, None)]

    def _must_read(self, window: Window, at: int, sentence: str) -> None:
        mark, wanted = self.watch.mark(), self._content(window, at)
        seen = window.read(at, EDGE)
        faults = self._faults(mark, write=False)
        must(seen == wanted and not faults, f"{sentence}: it reads byte {at:#x}", f"{seen.hex()} {faults}")

    def _must_not_read(self, window: Window, at: int, sentence: str) -> None:
        mark = self.watch.mark()
        self._store(window, at, MARKER)
        seen = window.read(at, EDGE)
        refused = seen != MARKER and self._faults(mark, write=False)
        must(refused, f"{sentence}: a read of byte {at:#x} is refused", seen.hex())

    def _must_write(self, window: Window, at: int, sentence: str) -> None:
        mark, before = self.watch.mark(), self._content(window, at)
        wanted = bytes(byte ^ 0xFF for byte in before)
        window.write(at, wanted)
        seen, faults = self._content(window, at), self._faults(mark, write=True)
        must(seen == wanted and not faults, f"{sentence}: it writes byte {at:#x}", f"{seen.hex()} {faults}")
        self._store(window, at, before)

    def _must_not_write(self, window: Window, at: int, sentence: str) -> None:
        mark = self.watch.mark()
        self._store(window, at, before := bytes(EDGE))
        window.write(at, MARKER)
        refused = self._content(window, at) == before and self._faults(mark, write=True)
        must(refused, f"{sentence}: a write of byte {at:#x} is refused", self._content(window, at).hex())

    def _store(self, window: Window, at: int, data: bytes) -> None:
        self.exporter.write(self.buffer.region, self._offset(window) + at, data)

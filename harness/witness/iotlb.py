# SPDX-License-Identifier: GPL-2.0-only
"""Read from QEMU's trace when its VT-d IOTLB caches and forgets translations, and when a BAR leaves the address space.

QEMU's IOTLB keeps a translation until the kernel invalidates it, as hardware may. So a DMA reaches its old target after
the page table has changed. The order of the events in the trace is the order in which they happened.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from harness.errors import BlindWitness
from harness.witness.iommu_faults import bdf
from harness.witness.machine import Machine
from harness.witness.tracelog import TraceLine, TraceLog

PAGE_SHIFT = 12

# QEMU hw/i386/trace-events and hw/pci/trace-events, 7.2 to 11.1.
_CACHED = re.compile(
    r"IOTLB page update sid 0x(?P<sid>[0-9a-f]+) iova 0x(?P<iova>[0-9a-f]+) slpte 0x[0-9a-f]+"
    r" domain 0x(?P<domain>[0-9a-f]+)"
)
_PAGES = re.compile(
    r"iotlb invalidate domain 0x(?P<domain>[0-9a-f]+) addr 0x(?P<iova>[0-9a-f]+) mask 0x(?P<mask>[0-9a-f]+)"
)
_DOMAIN = re.compile(r"iotlb invalidate whole domain 0x(?P<domain>[0-9a-f]+)")
_BAR = re.compile(r"\S+ (?P<device>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<bar>\d+),0x(?P<start>[0-9a-f]+)\+0x[0-9a-f]+")
CACHED, PAGES, DOMAIN, GLOBAL, BAR_GONE = EVENTS = (
    "vtd_iotlb_page_update",
    "vtd_inv_desc_iotlb_pages",
    "vtd_inv_desc_iotlb_domain",
    "vtd_inv_desc_iotlb_global",
    "pci_update_mappings_del",
)


@dataclass(frozen=True)
class Translation:
    """A translation in QEMU's IOTLB."""

    requester: str
    """The PCI address of the device that used it."""
    iova: int
    domain: int
    """The number that the kernel gave the domain."""

    def __str__(self) -> str:
        """Return one line for a verdict."""
        return f"{self.iova:#x} of {self.requester} in domain {self.domain}"


@dataclass(frozen=True)
class Flush:
    """An invalidation of the IOTLB. ``domain`` None: of all domains. ``iova`` None: of all addresses."""

    domain: int | None = None
    iova: int | None = None
    pages: int = 1

    def covers(self, cached: Translation) -> bool:
        """Return whether it removes this translation."""
        if self.domain not in (None, cached.domain):
            return False
        return self.iova is None or 0 <= (cached.iova - self.iova) >> PAGE_SHIFT < self.pages


@dataclass(frozen=True)
class BarGone:
    """A BAR left the address space: memory decoding was turned off, or the device was reset."""

    device: str
    bar: int


IotlbEvent = Translation | Flush | BarGone


def parse(line: TraceLine) -> IotlbEvent | None:
    """Parse one line; None if it is something else."""
    if line.event == GLOBAL:
        return Flush()
    pattern = {CACHED: _CACHED, PAGES: _PAGES, DOMAIN: _DOMAIN, BAR_GONE: _BAR}.get(line.event)
    found = pattern.fullmatch(line.arguments) if pattern else None
    if found is None:
        return None
    if line.event == BAR_GONE:
        return BarGone(f"0000:{found['device']}", int(found["bar"]))
    domain = int(found["domain"], 16)
    if line.event == DOMAIN:
        return Flush(domain)
    iova = int(found["iova"], 16)
    if line.event == CACHED:
        return Translation(bdf(int(found["sid"], 16)), iova, domain)
    pages = 1 << int(found["mask"], 16)
    return Flush(domain, iova & ~((pages << PAGE_SHIFT) - 1), pages)


def stale(events: Iterable[IotlbEvent], requester: str, iovas: range, exporter: str) -> list[Translation]:
    """Return the translations that the IOTLB still had for ``iovas`` of ``requester`` when BAR0 of ``exporter`` went.

    Raises BlindWitness if ``requester`` used none of ``iovas`` before, or if the BAR never went.
    """
    cached: dict[Translation, None] = {}
    used = gone = False
    for event in events:
        if isinstance(event, Translation):
            if event.requester == requester and event.iova in iovas:
                cached[event] = None
                used = True
        elif isinstance(event, Flush):
            cached = {each: None for each in cached if not event.covers(each)}
        elif (event.device, event.bar) == (exporter, 0):
            gone = True
            break
    if not (used and gone):
        what = f"BAR0 of {exporter} leave" if used else f"{requester} use the mapping"
        raise BlindWitness(f"blind witness, IOTLB trace: it has not shown {what}")
    return list(cached)


def unflushed(events: Iterable[IotlbEvent], requester: str, iovas: range) -> list[int]:
    """Return the pages of ``iovas`` that the kernel did not flush before ``requester`` first used one of them.

    Raises BlindWitness if ``requester`` used none of ``iovas``.
    """
    flushes = []
    for event in events:
        if isinstance(event, Flush):
            flushes.append(event)
        elif isinstance(event, Translation) and event.requester == requester and event.iova in iovas:
            pages = (replace(event, iova=page) for page in range(iovas.start, iovas.stop, 1 << PAGE_SHIFT))
            return [page.iova for page in pages if not any(flush.covers(page) for flush in flushes)]
    raise BlindWitness(f"blind witness, IOTLB trace: it has not shown {requester} use the mapping")


class IotlbTrace:
    """What QEMU's VT-d IOTLB caches and forgets. It records from the first ``mark`` on."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)

    def mark(self) -> int:
        """Return the trace's present end."""
        self._log.enable(EVENTS)
        return self._log.mark()

    def stale(self, mark: int, requester: str, iovas: range, exporter: str) -> list[Translation]:
        """Return what ``stale`` finds between ``mark`` and this call. Raises as it does."""
        return stale(self._events(mark), requester, iovas, exporter)

    def unflushed(self, mark: int, requester: str, iovas: range) -> list[int]:
        """Return what ``unflushed`` finds between ``mark`` and this call. Raises as it does."""
        return unflushed(self._events(mark), requester, iovas)

    def _events(self, mark: int) -> Iterator[IotlbEvent]:
        self._log.settle()
        return filter(None, map(parse, self._log.since(mark, EVENTS)))

# SPDX-License-Identifier: GPL-2.0-only
"""Read from QEMU's trace when its IOTLB caches and forgets translations, and when a BAR leaves the address space.

This is the trace of VT-d; ``smmu_iotlb.py`` has that of an SMMU.

QEMU's IOTLB keeps a translation until the kernel invalidates it, as hardware may. So a DMA reaches its old target after
the page table has changed. The order of the events in the trace is the order in which they happened.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.errors import BlindWitness
from harness.witness import smmu_iotlb
from harness.witness.iommu_faults import bdf
from harness.witness.iotlb_events import BAR_GONE, PAGE_SHIFT, Flush, IotlbEvent, Translation, bar_gone
from harness.witness.machine import Machine
from harness.witness.smmu_tables import SMMU
from harness.witness.tracelog import TraceLine, TraceLog

# QEMU hw/i386/trace-events, 7.2 to 11.1.
_CACHED = re.compile(
    r"IOTLB page update sid 0x(?P<sid>[0-9a-f]+) iova 0x(?P<iova>[0-9a-f]+) slpte 0x[0-9a-f]+"
    r" domain 0x(?P<domain>[0-9a-f]+)"
)
_PAGES = re.compile(
    r"iotlb invalidate domain 0x(?P<domain>[0-9a-f]+) addr 0x(?P<iova>[0-9a-f]+) mask 0x(?P<mask>[0-9a-f]+)"
)
_DOMAIN = re.compile(r"iotlb invalidate whole domain 0x(?P<domain>[0-9a-f]+)")
CACHED, PAGES, DOMAIN, GLOBAL, _ = EVENTS = (
    "vtd_iotlb_page_update",
    "vtd_inv_desc_iotlb_pages",
    "vtd_inv_desc_iotlb_domain",
    "vtd_inv_desc_iotlb_global",
    BAR_GONE,
)


def parse(line: TraceLine) -> IotlbEvent | None:
    """Parse one line; None if it is something else."""
    if line.event == GLOBAL:
        return Flush()
    pattern = {CACHED: _CACHED, PAGES: _PAGES, DOMAIN: _DOMAIN}.get(line.event)
    found = pattern.fullmatch(line.arguments) if pattern else None
    if found is None:
        return bar_gone(line)
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
    """What QEMU's IOTLB caches and forgets: of VT-d or of an SMMUv3. It records from the first ``mark`` on."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)
        self._is_smmu = machine.iommu_type == SMMU

    def mark(self) -> int:
        """Return the trace's present end."""
        self._log.enable(smmu_iotlb.PATTERNS if self._is_smmu else EVENTS)
        return self._log.mark()

    def stale(self, mark: int, requester: str, iovas: range, exporter: str) -> list[Translation]:
        """Return what ``stale`` finds between ``mark`` and this call. Raises as it does."""
        return stale(self._events(mark), requester, iovas, exporter)

    def unflushed(self, mark: int, requester: str, iovas: range) -> list[int]:
        """Return what ``unflushed`` finds between ``mark`` and this call. Raises as it does."""
        return unflushed(self._events(mark), requester, iovas)

    def _events(self, mark: int) -> Iterator[IotlbEvent]:
        self._log.settle()
        if self._is_smmu:
            return smmu_iotlb.parse(self._log.since(mark, smmu_iotlb.EVENTS))
        return filter(None, map(parse, self._log.since(mark, EVENTS)))

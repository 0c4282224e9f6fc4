# SPDX-License-Identifier: GPL-2.0-only
"""Read DMA faults from the trace of QEMU's IOMMU model, and from the guest's log to corroborate.

QEMU's trace has every fault. The guest's log is rate limited.
"""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.witness.iommu_maps import VIRTIO
from harness.witness.machine import CONSOLE_LIMIT, Machine
from harness.witness.smmu_tables import SMMU
from harness.witness.tracelog import TraceLine, TraceLog

VIRTIO_F_READ = 1 << 0  # include/uapi/linux/virtio_iommu.h, VIRTIO_IOMMU_FAULT_F_READ
VIRTIO_F_WRITE = 1 << 1  # VIRTIO_IOMMU_FAULT_F_WRITE
AMD_F_WRITE = 1 << 5  # AMD I/O Virtualization Technology Specification, IO_PAGE_FAULT, RW


@dataclass(frozen=True)
class DmaFault:
    """One access that the IOMMU refused. QEMU splits a DMA into several; the guest logs some of them, by page."""

    device: str | None
    """``dddd:bb:dd.f``, with the bus numbers that the guest assigned; None where the witness does not say."""
    address: int
    write: bool | None
    """None where the witness does not say."""
    reason: int | None
    """The IOMMU's own number."""
    witness: Literal["qemu", "guest"]
    time: float | None = field(default=None, compare=False)
    """Unix time in seconds, or None. Comparisons ignore it."""

    def __str__(self) -> str:
        """Return one line for the evidence."""
        access = {True: "DMA write", False: "DMA read", None: "DMA"}[self.write]
        reason = "" if self.reason is None else f", reason {self.reason:#x}"
        return f"{access} by {self.device or 'a device'} to {self.address:#x} refused{reason}"


def bdf(source_id: int) -> str:
    """Format a PCI requester id as ``0000:bb:dd.f``."""
    return f"0000:{source_id >> 8 & 0xFF:02x}:{source_id >> 3 & 0x1F:02x}.{source_id & 7}"


def requester_id(address: str) -> int:
    """Return the PCI requester id of ``0000:bb:dd.f``."""
    _, bus, slot = address.split(":")
    device, function = slot.split(".")
    return int(bus, 16) << 8 | int(device, 16) << 3 | int(function)


def _vtd(match: re.Match[str], time: float | None) -> DmaFault:
    return DmaFault(
        bdf(int(match["sid"], 16)), int(match["addr"], 16), match["write"] == "1", int(match["reason"]), "qemu", time
    )


def _virtio(match: re.Match[str], time: float | None) -> DmaFault:
    write = _direction(int(match["flags"]))
    return DmaFault(bdf(int(match["endpoint"])), int(match["addr"], 16), write, int(match["reason"]), "qemu", time)


def _direction(flags: int) -> bool | None:
    """Return whether the access was a write; None if virtio-iommu does not say, e.g. without a mapping there."""
    return bool(flags & VIRTIO_F_WRITE) if flags & (VIRTIO_F_READ | VIRTIO_F_WRITE) else None


def _amdvi(match: re.Match[str], time: float | None) -> DmaFault:
    return DmaFault(f"0000:{match['device']}", int(match["addr"], 16), None, None, "qemu", time)


# QEMU hw/i386/trace-events and hw/virtio/trace-events, 7.2 to 11.1.
_EVENTS = {
    "vtd_dmar_fault": (
        re.compile(r"sid 0x(?P<sid>[0-9a-f]+) fault (?P<reason>\d+) addr 0x(?P<addr>[0-9a-f]+) write (?P<write>[01])"),
        _vtd,
    ),
    "virtio_iommu_report_fault": (
        re.compile(
            r"FAULT reason=(?P<reason>\d+) flags=(?P<flags>\d+) endpoint=(?P<endpoint>\d+)"
            r" address =0x(?P<addr>[0-9a-f]+)"
        ),
        _virtio,
    ),
    # amd-iommu reports no fault for a DMA without a mapping; it translates the address to 0.
    "amdvi_translation_result": (
        re.compile(r"devid: (?P<device>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) gpa 0x(?P<addr>[0-9a-f]+) hpa 0x0"),
        _amdvi,
    ),
}

# QEMU hw/arm/trace-events, 7.2 and 11.1. An SMMU records a fault without its address. The lookup just before it has the
# address of the page.
_SMMU_FAULTS = ("smmuv3_record_event", "smmuv3_propagate_event")
"""The second is the name in QEMU 11.1."""
_SMMU_LOOKUPS = ("smmu_iotlb_lookup_miss", "smmu_iotlb_lookup_hit")
_SMMU_ABORT = "smmuv3_translate_abort"
_SMMU = {
    **dict.fromkeys(_SMMU_FAULTS, re.compile(r"SMMU_EVT_\w+ sid=0x(?P<sid>[0-9a-f]+)")),
    **dict.fromkeys(_SMMU_LOOKUPS, re.compile(r"IOTLB cache (?:MISS|HIT) .*?\baddr=0x(?P<addr>[0-9a-f]+) .*")),
    _SMMU_ABORT: re.compile(
        r".* sid=0x(?P<sid>[0-9a-f]+) abort on iova:0x(?P<addr>[0-9a-f]+) is_write=(?P<write>[01])"
    ),
}
_SMMU_PATTERNS = ("smmuv3_*_event", *_SMMU_LOOKUPS, _SMMU_ABORT)
"""What to switch on: each is the name of one event, or a pattern that fits one."""
_OF: Mapping[str, tuple[Collection[str], Collection[str]]] = {
    SMMU: (_SMMU, _SMMU_PATTERNS),
    "intel-iommu": (("vtd_dmar_fault",), ("vtd_dmar_fault",)),
    VIRTIO: (("virtio_iommu_report_fault",), ("virtio_iommu_report_fault",)),
    "amd-iommu": (("amdvi_translation_result",), ("amdvi_translation_result",)),
}
"""By QEMU's type of the IOMMU: the events of its faults, and what to switch on. A QEMU has only those of its own
architecture. The self-check finds an IOMMU that is missing here."""

_DEVICE = r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"
# Linux drivers/iommu/intel/dmar.c dmar_fault_do_one, amd/iommu.c amd_iommu_report_page_fault, virtio-iommu.c,
# arm-smmu-v3.c arm_smmu_dump_event.
_GUEST = (
    re.compile(
        rf"\[DMA (?P<access>Read|Write) (?:NO_)?PASID(?: 0x[0-9a-f]+)?\] Request device \[{_DEVICE}\]"
        r" fault addr 0x(?P<addr>[0-9a-f]+) \[fault reason 0x(?P<reason>[0-9a-f]+)\]"
    ),
    re.compile(
        rf"(?:{_DEVICE}: (?:AMD-Vi: )?)?Event logged \[IO_PAGE_FAULT (?:device=(?P<named>[0-9a-f:.]{{7,12}}) )?"
        r"domain=0x[0-9a-f]+ address=0x(?P<addr>[0-9a-f]+) flags=0x(?P<flags>[0-9a-f]+)\]"
    ),
    re.compile(
        r"(?:domain|page|unknown) fault from EP (?P<endpoint>\d+) at (?P<addr>0x[0-9a-f]+|0) \[(?P<rwx>[RWX]{0,3})\]"
    ),
    re.compile(
        r"event: F_\w+ client: .{1,80} sid: 0x(?P<sid>[0-9a-f]+) ssid: (?:0x)?[0-9a-f]+"
        r" iova: (?:0x)?(?P<addr>[0-9a-f]+) "
    ),
)
_GUEST_DIRECTION = {"R": False, "W": True}
_MAX_LINE = 512


def parse_trace(lines: Iterable[TraceLine]) -> Iterator[DmaFault]:
    """Yield the faults among QEMU's trace lines, in order."""
    page = 0
    for line in lines:
        if line.event in _EVENTS:
            pattern, make = _EVENTS[line.event]
            if match := pattern.fullmatch(line.arguments):
                yield make(match, line.time)
        elif line.event in _SMMU and (match := _SMMU[line.event].fullmatch(line.arguments)):
            if line.event in _SMMU_LOOKUPS:
                page = int(match["addr"], 16)
            else:
                yield _smmu(match, page, line.time)


def _smmu(match: re.Match[str], page: int, time: float | None) -> DmaFault:
    found = match.groupdict()
    if found.get("write"):
        return DmaFault(bdf(int(found["sid"], 16)), int(found["addr"], 16), found["write"] == "1", None, "qemu", time)
    return DmaFault(bdf(int(found["sid"], 16)), page, None, None, "qemu", time)


def parse_console(text: str) -> Iterator[DmaFault]:
    """Yield the faults that the guest kernel logged, in order. ``text`` is untrusted."""
    for line in text.splitlines():
        for pattern in _GUEST:
            if match := pattern.search(line[:_MAX_LINE]):
                yield _guest_fault(match.groupdict())
                break


def _guest_fault(found: dict[str, str | None]) -> DmaFault:
    address = int(found["addr"] or "0", 16)
    if access := found.get("access"):
        return DmaFault(found["device"], address, access == "Write", int(found["reason"] or "0", 16), "guest")
    if flags := found.get("flags"):
        device = found.get("named") or found.get("device")
        return DmaFault(device, address, bool(int(flags, 16) & AMD_F_WRITE), None, "guest")
    if sid := found.get("sid"):
        return DmaFault(bdf(int(sid, 16)), address, None, None, "guest")
    return DmaFault(
        bdf(int(found["endpoint"] or "0")), address, _GUEST_DIRECTION.get((found["rwx"] or "")[:1]), None, "guest"
    )


class Mark(NamedTuple):
    """Byte offsets into the trace and the console, and the time for the logs of devices."""

    trace: int
    console: int
    time: float = 0.0
    """time.monotonic() of the host."""


class IommuFaults:
    """The DMA accesses that a machine's IOMMU refused."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)
        self._console = machine.console
        self._events, patterns = _OF.get(machine.iommu_type, ((), ()))
        self._log.enable(patterns)

    def mark(self) -> Mark:
        """Return the present end of trace and console."""
        return Mark(self._log.mark(), self._console.mark(), time.monotonic())

    def since(self, mark: Mark) -> list[DmaFault]:
        """Return every fault between ``mark`` and this call, as QEMU's IOMMU model reported it."""
        self._log.settle()
        return self.recorded(mark)

    def recorded(self, mark: Mark) -> list[DmaFault]:
        """Return what the file has after ``mark``, without waiting for QEMU: for a machine that is lost."""
        return list(parse_trace(self._log.since(mark.trace, self._events)))

    def logged(self, mark: Mark) -> list[DmaFault]:
        """Return what the guest kernel has logged so far. No verdict may require it: it is late and rate limited."""
        return list(parse_console(self._console.since(mark.console, CONSOLE_LIMIT)))

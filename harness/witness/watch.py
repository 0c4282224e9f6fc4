# SPDX-License-Identifier: GPL-2.0-only
"""Observe one case with all witnesses: set marks at its start, and collect evidence at its end."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby

from harness.errors import BlindWitness, GuestLost, HarnessError
from harness.verdict import Evidence, Source
from harness.witness.ahci import AhciTrace, PortWrite
from harness.witness.device_log import NOT_EVIDENCE, DeviceDma, DeviceEvent, DeviceLogs
from harness.witness.doorbell import Doorbell, DoorbellTrace
from harness.witness.iommu_faults import DmaFault, IommuFaults, Mark, parse_console
from harness.witness.iommu_maps import VIRTIO, IommuMap, IommuMaps
from harness.witness.iotlb import IotlbTrace
from harness.witness.iotlb_events import Translation
from harness.witness.machine import CONSOLE_LIMIT, Machine
from harness.witness.qemu_stderr import Warned, added, parse_stderr
from harness.witness.smmu_tables import SMMU, SmmuTables
from harness.witness.splat import Splat, find_splats

MAX_EVIDENCE = 24
"""Items of each kind in the evidence; the rest is counted."""
MAX_TEXT = 16 * 1024


@dataclass(frozen=True)
class Observed:
    """The witnesses' observations during one case."""

    doorbells: list[Doorbell]
    faults: list[DmaFault]
    logged_faults: list[DmaFault]
    splats: list[Splat]
    warned: list[Warned]
    evidence: list[Evidence]
    """All of the above, by time."""
    blind: str | None = None
    """Why this may be incomplete."""
    defects: tuple[str, ...] = ()
    """The failures of the models of vfio-user devices: exceptions in their Python code."""

    @property
    def invalid(self) -> str | None:
        """Why the case proves nothing (verdict ERROR), or None."""
        warnings = (warned.invalidates for warned in self.warned if warned.invalidates)
        return self.blind or next(chain(self.defects, warnings), None)


class Witnesses:
    """The witnesses of one machine. Create them once it is ready; every case on it uses them."""

    def __init__(self, machine: Machine) -> None:
        self.doorbells = DoorbellTrace(machine)
        self.faults = IommuFaults(machine)
        self._maps = IommuMaps(machine) if machine.iommu_type == VIRTIO else None
        self.tables = SmmuTables(machine) if machine.iommu_type == SMMU else None
        self.iotlb = IotlbTrace(machine)
        self.ahci = AhciTrace(machine)
        self.devices = DeviceLogs(machine.device_logs)
        self._machine = machine

    def doorbells_since(self, mark: Mark) -> list[Doorbell]:
        """Return every doorbell since ``mark``: of QEMU's controllers, then of vfio-user devices."""
        return [*self.doorbells.since(mark.trace), *self.devices.doorbells(mark.time)]

    def maps_since(self, mark: int, phys: int, length: int) -> list[IommuMap]:
        """Return every map of these physical addresses since a mark of the trace; those that exist now of an SMMU.

        Raises BlindWitness if no witness of this machine sees maps."""
        if self.tables:
            return self.tables.maps(phys, length)
        if self._maps:
            return self._maps.since(mark, phys, length)
        raise BlindWitness("blind witness, IOMMU maps: this machine's IOMMU does not show the type of memory")

    def watch(self) -> "Watch":
        """Set the marks of a case that begins now."""
        return Watch(self._machine, self)


class Watch:
    """The marks of one case, and what happened since then."""

    def __init__(self, machine: Machine, witnesses: Witnesses) -> None:
        self._machine = machine
        self._witnesses = witnesses
        self._mark: Mark = witnesses.faults.mark()
        self._stderr = machine.stderr_tail()
        self._began = time.monotonic()
        self._began_unix = time.time()
        self.on_use: Callable[[str], None] = lambda _: None
        """Called with its name when the case asks a witness that nothing in the guest can replace."""

    @property
    def elapsed(self) -> float:
        """Seconds since the case began."""
        return time.monotonic() - self._began

    def mark(self) -> Mark:
        """Return a mark later than the case's start."""
        return self._witnesses.faults.mark()

    def doorbells(self, mark: Mark | None = None) -> list[Doorbell]:
        """Return every doorbell since ``mark``, or since the case began."""
        return self._witnesses.doorbells_since(mark or self._mark)

    def device_events(self, device_id: str, mark: Mark | None = None) -> list[DeviceEvent]:
        """Return what a vfio-user device logged since ``mark``, or since the case began."""
        self.on_use("device_events")
        return self._witnesses.devices.since((mark or self._mark).time, device_id)

    def device_dma(self, device_id: str, mark: Mark | None = None) -> list[DeviceDma]:
        """Return the DMA that a vfio-user device made since ``mark``, or since the case began."""
        self.on_use("device_dma")
        return self._witnesses.devices.dma((mark or self._mark).time, device_id)

    def faults(self, mark: Mark | None = None) -> list[DmaFault]:
        """Return every DMA fault since ``mark``, or since the case began."""
        return self._witnesses.faults.since(mark or self._mark)

    def maps(self, phys: int, length: int, mark: Mark | None = None) -> list[IommuMap]:
        """Return every map of these physical addresses since ``mark``, or since the case began.

        Only virtio-iommu and SMMUv3 show them. Of an SMMU, it returns those that exist now."""
        self.on_use("maps")
        return self._witnesses.maps_since((mark or self._mark).trace, phys, length)

    def iotlb_mark(self) -> int:
        """Begin to record the IOTLB, and return a mark for ``stale_translations`` and ``unflushed_pages``."""
        return self._witnesses.iotlb.mark()

    def stale_translations(self, mark: int, requester: str, iovas: range, exporter: str) -> list[Translation]:
        """Return the translations of ``iovas`` that the IOTLB still had when BAR0 of ``exporter`` had gone.

        VT-d and SMMUv3 only.

        ``requester`` and ``exporter`` are PCI addresses. Raises BlindWitness if ``requester`` used none of ``iovas``
        since ``mark``, or if the BAR did not go.
        """
        self.on_use("stale_translations")
        return self._witnesses.iotlb.stale(mark, requester, iovas, exporter)

    def unflushed_pages(self, mark: int, requester: str, iovas: range) -> list[int]:
        """Return the pages of ``iovas`` that the kernel did not flush before their first use since ``mark``. VT-d only.

        ``requester``: a PCI address. Raises BlindWitness if it used none of ``iovas`` since ``mark``.
        """
        self.on_use("unflushed_pages")
        return self._witnesses.iotlb.unflushed(mark, requester, iovas)

    def ahci_mark(self) -> int:
        """Begin to record AHCI controllers, and return a mark for ``ahci_writes``."""
        return self._witnesses.ahci.mark()

    def ahci_writes(self, mark: int) -> list[PortWrite]:
        """Return every write to an AHCI controller's port registers since ``mark``."""
        self.on_use("ahci_writes")
        return self._witnesses.ahci.since(mark)

    def splats(self, mark: Mark | None = None) -> list[Splat]:
        """Return the kernel's complaints that the console has shown since ``mark``, or since the case began."""
        return find_splats(self._machine.console.since((mark or self._mark).console, CONSOLE_LIMIT))

    def collect(self) -> Observed:
        """Return everything seen. It works on a machine that has died, and never raises what ended it."""
        blind, seen = None, self._witnesses
        try:
            doorbells, faults = self.doorbells(), self.faults()
        except (GuestLost, HarnessError) as error:
            blind = str(error) if isinstance(error, HarnessError) else None
            doorbells, faults = seen.doorbells.recorded(self._mark.trace), seen.faults.recorded(self._mark)
            doorbells += seen.devices.doorbells(self._mark.time)
        console = self._machine.console.since(self._mark.console, CONSOLE_LIMIT)
        logged, splats = list(parse_console(console)), find_splats(console)
        warned = parse_stderr(added(self._stderr, self._machine.stderr_tail()))
        evidence = [
            *self._evidence("trace", [(bell.time, f"doorbell: {bell}") for bell in doorbells]),
            *self._evidence("trace", list(_bursts(faults))),
            *self._evidence("console", [(None, f"the guest logged: {fault}") for fault in logged]),
            *self._evidence("console", [(None, splat.text) for splat in splats]),
            *self._evidence("trace", self._by_devices()),
            *self._evidence("host", [(None, f"QEMU: {line.text}" + _because(line)) for line in warned]),
        ]
        evidence.sort(key=lambda item: item.t)
        defects = tuple(
            f"the model of {each.device} failed: {each.fields['why']}"
            for each in seen.devices.since(self._mark.time)
            if each.event == "defect"
        )
        return Observed(doorbells, faults, logged, splats, warned, evidence, blind, defects)

    def _by_devices(self) -> list[tuple[float | None, str]]:
        """Return what the devices logged besides accesses and doorbells, with Unix times."""
        offset = time.time() - time.monotonic()
        events = self._witnesses.devices.since(self._mark.time)
        return [(each.t + offset, f"device {each}") for each in events if each.event not in NOT_EVIDENCE]

    def _evidence(self, source: Source, seen: list[tuple[float | None, str]]) -> list[Evidence]:
        """Return evidence of one kind: the first and the last of many. Items without a time get the present one."""
        now = self.elapsed
        half = MAX_EVIDENCE // 2
        left_out = len(seen) - 2 * half
        shown = [Evidence(t=self._since_start(at, now), source=source, text=text[:MAX_TEXT]) for at, text in seen]
        if left_out <= 0:
            return shown
        gap = Evidence(t=shown[half].t, source=source, text=f"({left_out} more)")
        return [*shown[:half], gap, *shown[-half:]]

    def _since_start(self, at: float | None, now: float) -> float:
        return round(now if at is None else min(max(at - self._began_unix, 0.0), now), 6)


def _bursts(faults: Iterable[DmaFault]) -> Iterator[tuple[float | None, str]]:
    """Group faults for the evidence: one DMA is refused in steps of 4 bytes."""
    for _, burst in groupby(faults, key=lambda fault: (fault.device, fault.write, fault.reason, fault.address >> 12)):
        first, *others = burst
        yield first.time, f"DMA fault: {first}" + (f", and {len(others)} more in this page" if others else "")


def _because(line: Warned) -> str:
    return f" ({line.invalidates})" if line.invalidates else ""

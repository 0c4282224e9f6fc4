# SPDX-License-Identifier: GPL-2.0-only
"""All witnesses over one case: marks at its start, and at its end what they saw, as evidence."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from harness.errors import GuestLost, HarnessError
from harness.verdict import Evidence, Source
from harness.witness.doorbell import Doorbell, DoorbellTrace
from harness.witness.iommu_faults import DmaFault, IommuFaults, Mark, parse_console
from harness.witness.iommu_maps import IommuMap, IommuMaps
from harness.witness.machine import CONSOLE_LIMIT, Machine
from harness.witness.qemu_stderr import Warned, added, parse_stderr
from harness.witness.splat import Splat, find_splats

MAX_EVIDENCE = 24
"""Of each kind; the rest is counted."""
MAX_TEXT = 16 * 1024


@dataclass(frozen=True)
class Observed:
    """What the witnesses saw during one case, and why that may not be all (``blind``). ``evidence`` goes by time."""

    doorbells: list[Doorbell]
    faults: list[DmaFault]
    logged_faults: list[DmaFault]
    splats: list[Splat]
    warned: list[Warned]
    evidence: list[Evidence]
    blind: str | None = None

    @property
    def invalid(self) -> str | None:
        """Why the case proves nothing, if so: verdict ERROR."""
        return self.blind or next((warned.invalidates for warned in self.warned if warned.invalidates), None)


class Witnesses:
    """The observers of one machine; made once it is ready, asked by every case."""

    def __init__(self, machine: Machine) -> None:
        self.doorbells = DoorbellTrace(machine)
        self.faults = IommuFaults(machine)
        self.maps = IommuMaps(machine)
        self._machine = machine

    def watch(self) -> "Watch":
        """Start watching: the case begins now."""
        return Watch(self._machine, self.doorbells, self.faults, self.maps)


class Watch:
    """One case's marks. ``doorbells`` and ``faults`` tell what happened since then."""

    def __init__(self, machine: Machine, doorbells: DoorbellTrace, faults: IommuFaults, maps: IommuMaps) -> None:
        self._machine = machine
        self._maps = maps
        self._doorbells = doorbells
        self._faults = faults
        self._mark: Mark = faults.mark()
        self._stderr = machine.stderr_tail()
        self._began = time.monotonic()
        self._began_unix = time.time()

    @property
    def elapsed(self) -> float:
        """Seconds since the case began."""
        return time.monotonic() - self._began

    def mark(self) -> Mark:
        """Where to look from, later than the case's beginning."""
        return self._faults.mark()

    def doorbells(self, mark: Mark | None = None) -> list[Doorbell]:
        """Every doorbell since ``mark``, or since the case began."""
        return self._doorbells.since((mark or self._mark).trace)

    def faults(self, mark: Mark | None = None) -> list[DmaFault]:
        """Every DMA refused since ``mark``, or since the case began."""
        return self._faults.since(mark or self._mark)

    def maps(self, phys: int, length: int, mark: Mark | None = None) -> list[IommuMap]:
        """Every time that these physical addresses were mapped since ``mark``, or since the case began: virtio-iommu
        only."""
        return self._maps.since((mark or self._mark).trace, phys, length)

    def splats(self) -> list[Splat]:
        """The kernel's complaints since the case began, as far as the console has them."""
        return find_splats(self._machine.console.since(self._mark.console, CONSOLE_LIMIT))

    def collect(self) -> Observed:
        """Everything seen, also of a machine that died meanwhile: never raises what ended it."""
        blind = None
        try:
            doorbells, faults = self.doorbells(), self.faults()
        except (GuestLost, HarnessError) as error:
            blind = str(error) if isinstance(error, HarnessError) else None
            doorbells, faults = self._doorbells.recorded(self._mark.trace), self._faults.recorded(self._mark)
        console = self._machine.console.since(self._mark.console, CONSOLE_LIMIT)
        logged, splats = list(parse_console(console)), find_splats(console)
        warned = parse_stderr(added(self._stderr, self._machine.stderr_tail()))
        evidence = [
            *self._tell("trace", [(bell.time, f"doorbell: {bell}") for bell in doorbells]),
            *self._tell("trace", list(_bursts(faults))),
            *self._tell("console", [(None, f"the guest logged: {fault}") for fault in logged]),
            *self._tell("console", [(None, splat.text) for splat in splats]),
            *self._tell("host", [(None, f"QEMU: {line.text}" + _because(line)) for line in warned]),
        ]
        evidence.sort(key=lambda item: item.t)
        return Observed(doorbells, faults, logged, splats, warned, evidence, blind)

    def _tell(self, source: Source, seen: list[tuple[float | None, str]]) -> list[Evidence]:
        """Evidence of one kind: the first and the last of many. What has no time of its own is dated now."""
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
    """Faults as evidence: one DMA is refused in steps of 4 bytes, which nobody wants to read one by one."""
    for _, burst in groupby(faults, key=lambda fault: (fault.device, fault.write, fault.reason, fault.address >> 12)):
        first, *others = burst
        yield first.time, f"DMA fault: {first}" + (f", and {len(others)} more in this page" if others else "")


def _because(line: Warned) -> str:
    return f" ({line.invalidates})" if line.invalidates else ""

# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel maps, and as what, told by an IOMMU that is asked to: virtio-iommu. Page tables in memory tell no one,
and those of VT-d's second stage do not hold the type of memory."""

import re
from dataclasses import dataclass

from harness.errors import BlindWitness
from harness.witness.machine import Machine
from harness.witness.tracelog import TraceLog

F_MMIO = 1 << 2
"""include/uapi/linux/virtio_iommu.h, VIRTIO_IOMMU_MAP_F_MMIO: what the kernel makes of IOMMU_MMIO."""

# QEMU hw/virtio/trace-events, 7.2 to 10.0.
_EVENT = "virtio_iommu_map"
_MAP = re.compile(
    r"domain=(?P<domain>\d+) virt_start=0x(?P<iova>[0-9a-f]+) virt_end=0x(?P<last>[0-9a-f]+)"
    r" phys_start=0x(?P<phys>[0-9a-f]+) flags=(?P<flags>\d+)"
)


@dataclass(frozen=True)
class IommuMap:
    """``length`` bytes at physical address ``phys``, mapped at ``iova`` of a domain, which the IOMMU numbers."""

    domain: int
    iova: int
    phys: int
    length: int
    mmio: bool

    def __str__(self) -> str:
        """One line for the evidence."""
        kind = "MMIO" if self.mmio else "memory"
        return f"domain {self.domain}: {self.length:#x} bytes at {self.phys:#x} mapped as {kind} at {self.iova:#x}"


def parse(arguments: str) -> IommuMap | None:
    """A map request, from the arguments of its trace event."""
    found = _MAP.match(arguments)
    if found is None:
        return None
    iova, last, phys = (int(found[name], 16) for name in ("iova", "last", "phys"))
    return IommuMap(int(found["domain"]), iova, phys, last - iova + 1, bool(int(found["flags"]) & F_MMIO))


class IommuMaps:
    """The maps that the kernel asked a virtio-iommu for; none on other machines."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)
        self._log.enable([_EVENT])
        self._start = self._log.mark()
        self._proven = False

    def since(self, mark: int, phys: int, length: int) -> list[IommuMap]:
        """Every map of these physical addresses, or of a part of them, since a mark of the trace."""
        self._log.settle()
        self._prove()
        maps = (parse(line.arguments) for line in self._log.since(mark, [_EVENT]))
        return [found for found in maps if found and found.phys < phys + length and phys < found.phys + found.length]

    def _prove(self) -> None:
        """Require that the trace has shown one map since boot; a case maps its queues before it asks about a buffer.

        Raises BlindWitness.
        """
        if not self._proven:
            lines = self._log.since(self._start, [_EVENT])
            self._proven = any(parse(line.arguments) for line in lines)
        if not self._proven:
            raise BlindWitness("blind witness, IOMMU map trace: it has not shown one map request since boot")

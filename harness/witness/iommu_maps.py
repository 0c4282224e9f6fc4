# SPDX-License-Identifier: GPL-2.0-only
"""Read what a kernel maps, and as which type of memory, from the requests that a virtio-iommu receives.

Other IOMMUs read page tables in memory, which QEMU does not trace. VT-d's second stage does not hold the type; those of
an SMMU do (``smmu_tables.py``).
"""

import re
from dataclasses import dataclass

from harness.errors import BlindWitness
from harness.witness.machine import Machine
from harness.witness.tracelog import TraceLog

VIRTIO = "virtio-iommu-pci"
"""QEMU's type of the IOMMU."""
F_MMIO = 1 << 2
"""include/uapi/linux/virtio_iommu.h, VIRTIO_IOMMU_MAP_F_MMIO. The kernel sets it for IOMMU_MMIO."""

# QEMU hw/virtio/trace-events, 7.2 to 11.1.
_EVENT = "virtio_iommu_map"
_MAP = re.compile(
    r"domain=(?P<domain>\d+) virt_start=0x(?P<iova>[0-9a-f]+) virt_end=0x(?P<last>[0-9a-f]+)"
    r" phys_start=0x(?P<phys>[0-9a-f]+) flags=(?P<flags>\d+)"
)


@dataclass(frozen=True)
class IommuMap:
    """One map request: ``length`` bytes at physical address ``phys``, at ``iova``."""

    domain: int
    """The number that the kernel gave the domain."""
    iova: int
    phys: int
    length: int
    mmio: bool
    memory_type: str = ""
    """The type's name, where the IOMMU knows more than two."""

    def __str__(self) -> str:
        """Return one line for the evidence."""
        kind, named = "MMIO" if self.mmio else "memory", f" ({self.memory_type})" if self.memory_type else ""
        return (
            f"domain {self.domain}: {self.length:#x} bytes at {self.phys:#x} mapped as {kind} at {self.iova:#x}{named}"
        )


def parse(arguments: str) -> IommuMap | None:
    """Parse the arguments of a map request's trace event; None if they are something else."""
    found = _MAP.match(arguments)
    if found is None:
        return None
    iova, last, phys = (int(found[name], 16) for name in ("iova", "last", "phys"))
    return IommuMap(int(found["domain"]), iova, phys, last - iova + 1, bool(int(found["flags"]) & F_MMIO))


class IommuMaps:
    """The map requests that a virtio-iommu received."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)
        self._log.enable([_EVENT])
        self._start = self._log.mark()
        self._proven = False

    def since(self, mark: int, phys: int, length: int) -> list[IommuMap]:
        """Return every map of any of these physical addresses since a mark of the trace.

        Raises BlindWitness if the trace has shown no map at all since boot.
        """
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

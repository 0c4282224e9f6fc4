# SPDX-License-Identifier: GPL-2.0-only
"""What happens to the translations that an IOMMU caches, and when a BAR leaves the address space."""

import re
from dataclasses import dataclass

from harness.witness.tracelog import TraceLine

PAGE_SHIFT = 12
BAR_GONE = "pci_update_mappings_del"
"""QEMU hw/pci/trace-events, 7.2 to 11.1."""
_BAR = re.compile(r"\S+ (?P<device>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<bar>\d+),0x(?P<start>[0-9a-f]+)\+0x[0-9a-f]+")


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


def bar_gone(line: TraceLine) -> BarGone | None:
    """Return the BAR that a line says to leave the address space; None if it is something else."""
    found = _BAR.fullmatch(line.arguments) if line.event == BAR_GONE else None
    return BarGone(f"0000:{found['device']}", int(found["bar"])) if found else None

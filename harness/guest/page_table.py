# SPDX-License-Identifier: GPL-2.0-only
"""The IOMMU's page tables, as the kernel dumps them (drivers/iommu/intel/debugfs.c)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from . import files
from .pci import DEVICES

DUMP = "/sys/kernel/debug/iommu/intel/{}/domain_translation_struct"
ADDRESS = 0x000F_FFFF_FFFF_F000
LEAF = {6: 12, 5: 21, 4: 30}
"""Address bits within the mapped page, by the number of columns of a row. The last column is the leaf entry."""
DMA_PTE_READ, DMA_PTE_WRITE = 1, 2
"""Permissions of an entry (drivers/iommu/intel/iommu.h)."""


class Entry(NamedTuple):
    """A leaf entry: it maps ``size`` bytes at ``iova`` to the physical address ``address``."""

    iova: int
    address: int
    size: int
    access: int
    """DMA_PTE_READ and DMA_PTE_WRITE."""


def entries(bdf: str, exporter: str, region: int, ranges: Sequence[tuple[int, int]]) -> list[Entry] | None:
    """List the entries of the page table of ``bdf`` that point into ``ranges`` of a BAR of ``exporter``.

    Their addresses count from the BAR's start. None if the kernel dumps no table: without an Intel IOMMU, or if it does
    not translate for the device.
    """
    dump = DUMP.format(bdf)
    lines = files.read_text(dump).splitlines() if files.exists(dump) else []
    if not lines:
        return None
    base = int(files.read_text(f"{DEVICES}/{exporter}/resource").splitlines()[region].split()[0], 16)
    targets = [(base + start, base + start + length) for start, length in ranges]
    return [
        entry._replace(address=entry.address - base)
        for entry in parse(lines)
        if any(entry.address < stop and start < entry.address + entry.size for start, stop in targets)
    ]


def parse(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the leaf entry of each row of a dump."""
    for line in lines:
        if line.startswith("0x"):
            frame, *_, leaf = columns = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", line)]
            bits = LEAF[len(columns)]
            yield Entry(frame << 12, leaf & ADDRESS & -1 << bits, 1 << bits, leaf & (DMA_PTE_READ | DMA_PTE_WRITE))

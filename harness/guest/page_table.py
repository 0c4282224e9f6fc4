# SPDX-License-Identifier: GPL-2.0-only
"""The IOMMU's page tables, as the kernel dumps them (drivers/iommu/intel/debugfs.c)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .pci import DEVICES

DUMP = "/sys/kernel/debug/iommu/intel/{}/domain_translation_struct"
ADDRESS = 0x000F_FFFF_FFFF_F000
LEAF = {6: 12, 5: 21, 4: 30}
"""Address bits within the mapped page, by the number of columns of a row. The last column is the leaf entry."""


def entries(bdf: str, exporter: str, region: int, ranges: Sequence[tuple[int, int]]) -> int | None:
    """Count the entries of the page table of ``bdf`` that point into ``ranges`` of a BAR of ``exporter``.

    None if the kernel dumps no table: without an Intel IOMMU, or if it does not translate for the device.
    """
    dump = Path(DUMP.format(bdf))
    lines = dump.read_text().splitlines() if dump.exists() else []
    if not lines:
        return None
    base = int((DEVICES / exporter / "resource").read_text().splitlines()[region].split()[0], 16)
    targets = [(base + start, base + start + length) for start, length in ranges]
    return sum(any(first < stop and start < last for start, stop in targets) for first, last in pages(lines))


def pages(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of each physical page that the rows of a dump map."""
    for line in lines:
        if line.startswith("0x"):
            columns = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", line)]
            first = columns[-1] & ADDRESS & -1 << LEAF[len(columns)]
            yield first, first + (1 << LEAF[len(columns)])

# SPDX-License-Identifier: GPL-2.0-only
"""Read from QEMU's trace when an SMMUv3's TLB caches and forgets translations.

The line of a cached translation names its address space (ASID) and not the device. The device is in the next line about
a translation, since QEMU translates one access at a time.
"""

import re
from collections.abc import Iterable, Iterator

from harness.witness.iommu_faults import bdf
from harness.witness.iotlb_events import BAR_GONE, Flush, IotlbEvent, Translation, bar_gone
from harness.witness.tracelog import TraceLine

# QEMU hw/arm/trace-events, 7.2 to 11.1. QEMU 9.1 renamed the event of a range.
CACHED, USED, ASID, ALL = (
    "smmu_iotlb_insert",
    "smmuv3_translate_success",
    "smmuv3_cmdq_tlbi_nh_asid",
    "smmuv3_cmdq_tlbi_nh",
)
RANGES = ("smmuv3_s1_range_inval", "smmuv3_range_inval")
PATTERNS = (CACHED, USED, ASID, ALL, "smmuv3_*range_inval", BAR_GONE)
"""What to switch on: each is the name of one event, or a pattern that fits one."""
EVENTS = frozenset({CACHED, USED, ASID, ALL, *RANGES, BAR_GONE})

_CACHED = re.compile(r"IOTLB \+\+ asid=(?P<asid>\d+) .*?\baddr=0x(?P<iova>[0-9a-f]+) .*")
_USED = re.compile(r"\S+ sid=0x(?P<sid>[0-9a-f]+) iova=0x[0-9a-f]+ .*")
_ASID = re.compile(r"asid=(?P<asid>\d+).*")
_RANGE = re.compile(
    r"vmid=-?\d+ asid=(?P<asid>-?\d+) addr=0x(?P<iova>[0-9a-f]+) tg=\d+ num_pages=0x(?P<pages>[0-9a-f]+) .*"
)


def parse(lines: Iterable[TraceLine]) -> Iterator[IotlbEvent]:
    """Yield what happened to the TLB, in order."""
    cached: re.Match[str] | None = None
    for line in lines:
        if line.event == CACHED:
            cached = _CACHED.fullmatch(line.arguments)
        elif line.event == USED:
            used = _USED.fullmatch(line.arguments)
            if cached and used:
                yield Translation(bdf(int(used["sid"], 16)), int(cached["iova"], 16), int(cached["asid"]))
            cached = None
        elif found := _flush(line) or bar_gone(line):
            yield found


def _flush(line: TraceLine) -> Flush | None:
    """Return the invalidation of a line; None for something else. An ASID below 0 stands for all."""
    if line.event == ALL:
        return Flush()
    if line.event == ASID and (found := _ASID.fullmatch(line.arguments)):
        return Flush(int(found["asid"]))
    if line.event in RANGES and (found := _RANGE.fullmatch(line.arguments)):
        asid = int(found["asid"])
        return Flush(asid if asid >= 0 else None, int(found["iova"], 16), int(found["pages"], 16))
    return None

# SPDX-License-Identifier: GPL-2.0-only
"""DMA by QEMU's iommu-testdev, which reports whether a write succeeded, and whether it is at a physical address."""

from dataclasses import dataclass

import pytest

from harness.cases import pmr_file
from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import TRIGGERS, rows_in, triggers
from harness.cases.must import must, must_fail
from harness.errors import BlindWitness
from harness.session import DmaBuf, Nvme, Session
from harness.session.feature_request import bars
from harness.session.iommu_testdev import ITD_DMA_WRITE_VAL, IommuTestdev, Result
from harness.witness import Watch

pytestmark = pytest.mark.machine("iommu-testdev", "arm64-iommu-testdev")
rows = rows_in("iommu-testdev")

TESTDEV = "iommu-testdev0"
START, PAGES = 5 * PAGE, 4
LENGTH = 64
"""Bytes of a write, at the start of a page."""
PATTERN = ITD_DMA_WRITE_VAL.to_bytes(4, "little") * (LENGTH // 4)


@dataclass(frozen=True)
class Write:
    """A write by the test device, as three observers saw it."""

    page: int
    result: Result
    fault: bool
    """Whether the IOMMU reported a fault there."""
    arrived: bool
    """Whether the host finds its bytes in the page of the BAR."""

    def __post_init__(self) -> None:
        """Raise BlindWitness if the observers contradict each other: no kernel can cause that."""
        if (self.fault and self.result is not Result.TX_FAIL) or self.arrived != (self.result is Result.OK):
            raise BlindWitness(f"blind witness: {self}")

    def __str__(self) -> str:
        """Say what each observer saw, in the reason of a verdict."""
        fault, found = "a fault" if self.fault else "no fault", "its bytes" if self.arrived else "nothing"
        return f"page {self.page}: iommu-testdev reports {self.result.name}, the IOMMU {fault}; {found} in the BAR"


@dataclass(frozen=True)
class Export:
    """An export of RAM that the host can read, and the test device that imports it."""

    session: Session
    watch: Watch
    buffer: DmaBuf
    physical: int
    """Its address in the guest."""
    testdev: IommuTestdev

    def map(self) -> int:
        """Map it for the test device. Returns the IOVA."""
        return self.session.ioas(self.testdev.device).map_file(self.buffer)

    def unmap(self, iova: int) -> None:
        """Unmap it from there."""
        self.session.ioas(self.testdev.device).unmap(iova, PAGES * PAGE)

    def write(self, iova: int, page: int) -> Write:
        """Let the test device write at the start of a page, which is cleared before."""
        offset = page * PAGE
        pmr_file.write(self.session, START + offset, bytes(LENGTH))
        mark = self.watch.mark()
        result = self.testdev.write(iova + offset, LENGTH, self.physical + offset)
        faults = {(fault.device, fault.address // PAGE) for fault in self.watch.faults(mark)}
        found = pmr_file.read(self.session, START + offset, LENGTH)
        return Write(page, result, (self.testdev.device.bdf, (iova + offset) // PAGE) in faults, found == PATTERN)

    def must_be_live(self, iova: int, when: str) -> None:
        """State that a write to each page of a mapping reaches its place in the BAR."""
        for page in range(PAGES):
            write = self.write(iova, page)
            must(write.arrived, f"{when}, each page of a mapping leads to its place in the BAR", write)

    def must_be_dead(self, iova: int, when: str) -> None:
        """State that a write to each page of a mapping is refused."""
        for page in range(PAGES):
            write = self.write(iova, page)
            must(not write.arrived, f"{when}, no write through an old mapping is in the BAR", write)
            must(write.fault, f"{when}, the IOMMU refuses a write through an old mapping", write)


@pytest.fixture
def export(session: Session, nvme: Nvme, watch: Watch) -> Export:
    """Export pages of the persistent memory region, and open the test device."""
    memory = nvme.pmr()
    physical = bars(session, UNDER_TEST)[memory.region].start + START
    buffer = nvme.device.export(memory.region, [(START, PAGES * PAGE)])
    return Export(session, watch, buffer, physical, IommuTestdev(session.open_device(TESTDEV)))


@rows("importers.content", "importers.live")
def test_each_page_reaches_its_physical_address(export: Export) -> None:
    """Each page of a mapping reaches its own physical address. After the unmap none does."""
    iova = export.map()
    export.must_be_live(iova, "while it is mapped")
    pmr_file.write(export.session, START, bytes(LENGTH))
    elsewhere = export.testdev.write(iova + PAGE, LENGTH, export.physical)
    if elsewhere is not Result.MISMATCH:
        raise BlindWitness(f"blind witness: iommu-testdev reports {elsewhere.name} for a page that it did not write")
    export.unmap(iova)
    export.must_be_dead(iova, "after the unmap")


@rows("importers.content", "importers.revoked")
@triggers("command-mem", "d3hot", "low-power", "reset", "flr", "hot-reset", area="iommu-testdev")
def test_a_revoke_is_seen_by_device_iommu_and_host(nvme: Nvme, export: Export, trigger: str) -> None:
    """A revoke blocks each page of an old mapping, for good. A new mapping of the same fd reaches the BAR."""
    old = export.map()
    export.must_be_live(old, f"before {trigger}")
    TRIGGERS[trigger].act(nvme.device)
    export.must_be_dead(old, f"after {trigger}")
    if undo := TRIGGERS[trigger].undo:
        with must_fail("ENODEV", f"after {trigger} an export cannot be mapped"):
            export.map()
        undo(nvme.device)
    nvme.start()
    nvme.pmr()
    export.must_be_dead(old, f"after {trigger}, once the device is in use again")
    export.must_be_live(export.map(), f"after {trigger}")
    export.must_be_dead(old, f"after {trigger} and a new mapping")


@rows("importers.content", "importers.revoked", "lifecycle.close")
def test_a_close_is_seen_by_device_iommu_and_host(session: Session, nvme: Nvme, export: Export) -> None:
    """The last close blocks each page of a mapping, and the export is dead for good."""
    old = export.map()
    export.must_be_live(old, "before the close")
    nvme.device.close()
    export.must_be_dead(old, "after the close")
    with must_fail("ENODEV", "an export of a closed device cannot be mapped"):
        export.map()
    session.open_nvme().pmr()
    export.must_be_dead(old, "once the device is open again")
    with must_fail("ENODEV", "an export of a closed device cannot be mapped once it is open again"):
        export.map()

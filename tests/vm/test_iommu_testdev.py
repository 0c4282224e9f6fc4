# SPDX-License-Identifier: GPL-2.0-only
"""DMA of a device that is told at once when its write is refused, and that reads past the IOMMU where it arrived."""

from dataclasses import dataclass

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import TRIGGERS, rows_in, triggers
from harness.cases.must import must, must_fail
from harness.session import Cmb, DmaBuf, Nvme, Session
from harness.session.feature_request import bars
from harness.session.iommu_testdev import PATTERN, IommuTestdev, Result
from harness.witness import Watch

pytestmark = pytest.mark.machine("iommu-testdev", "arm64-iommu-testdev")
rows = rows_in("iommu-testdev")

TESTDEV = "iommu-testdev0"
START, PAGES = 5 * PAGE, 4
LENGTH = 64


@dataclass(frozen=True)
class Setting:
    """An export of RAM, and the test device that writes to it. The host reads the RAM in the file behind the BAR."""

    session: Session
    nvme: Nvme
    memory: Cmb
    buffer: DmaBuf
    testdev: IommuTestdev
    watch: Watch
    physical: int
    """Address of the export in the guest."""

    def map(self) -> int:
        """Map the export for the test device. Returns the IOVA."""
        return self.session.ioas(self.testdev.device).map_file(self.buffer)

    def write(self, iova: int, offset: int) -> tuple[Result, int, bool]:
        """Let the test device write at ``offset`` of a mapping.

        Returns its result, the number of IOMMU faults of that address, and whether the host finds the bytes.
        """
        self.clear(offset)
        mark = self.watch.mark()
        result = self.testdev.write(iova + offset, LENGTH, self.physical + offset)
        faults = [
            fault
            for fault in self.watch.faults(mark)
            if fault.device == self.testdev.device.bdf and 0 <= fault.address - iova - offset < LENGTH
        ]
        found = self.in_file(offset)
        assert found in (PATTERN * (LENGTH // 4), bytes(LENGTH)), found.hex()
        return result, len(faults), any(found)

    def must_be_refused(self, iova: int, offset: int, when: str) -> None:
        """State that device, IOMMU and host agree that a write is refused."""
        result, faults, arrived = self.write(iova, offset)
        seen = f"{result.name} at {offset:#x}, {faults} faults, {'its bytes' if arrived else 'nothing'} in the BAR"
        refused = (result, bool(faults), arrived) == (Result.REFUSED, True, False)
        must(refused, f"{when} device, IOMMU and host agree that a write is refused", seen)

    def clear(self, offset: int) -> None:
        """Clear what a write at ``offset`` left, from the host's side."""
        with self.session.machine.memory(UNDER_TEST).open("r+b") as file:
            file.seek(START + offset)
            file.write(bytes(LENGTH))

    def in_file(self, offset: int) -> bytes:
        """Read ``LENGTH`` bytes of the export on the host."""
        with self.session.machine.memory(UNDER_TEST).open("rb") as file:
            file.seek(START + offset)
            return file.read(LENGTH)


@pytest.fixture
def setting(session: Session, nvme: Nvme, watch: Watch) -> Setting:
    """Export four pages of the persistent memory region."""
    memory = nvme.pmr()
    buffer = nvme.device.export(memory.region, [(START, PAGES * PAGE)])
    physical = bars(session, UNDER_TEST)[memory.region].start + START
    testdev = IommuTestdev(session.open_device(TESTDEV))
    return Setting(session, nvme, memory, buffer, testdev, watch, physical)


@rows("importers.content", "importers.live")
def test_each_page_leads_to_its_physical_address(setting: Setting) -> None:
    """A mapping leads each page to its own physical address, and an unmapped one nowhere."""
    iova = setting.map()
    for page in range(PAGES):
        seen = setting.write(iova, page * PAGE)
        must(seen == (Result.ARRIVED, 0, True), "a page of a live mapping leads to its place in the BAR", (page, seen))
    setting.clear(0)
    elsewhere = setting.testdev.write(iova + PAGE, LENGTH, setting.physical)
    assert elsewhere is Result.ELSEWHERE, elsewhere  # the device sees where its bytes are not
    setting.session.ioas(setting.testdev.device).unmap(iova, PAGES * PAGE)
    for page in range(PAGES):
        setting.must_be_refused(iova, page * PAGE, "once unmapped")


@rows("importers.content")
@triggers("command-mem", "d3hot", "low-power", "reset", "flr", "hot-reset", "close", area="iommu-testdev")
def test_a_revoke_refuses(setting: Setting, trigger: str) -> None:
    """After each trigger device, IOMMU and host agree that a write is refused. A new mapping lives."""
    old = setting.map()
    seen = setting.write(old, 0)
    must(seen == (Result.ARRIVED, 0, True), "before a revoke a write arrives", seen)
    act, undo = TRIGGERS[trigger].act, TRIGGERS[trigger].undo
    act(setting.nvme.device)
    for page in range(PAGES):
        setting.must_be_refused(old, page * PAGE, f"after {trigger}")
    if trigger == "close":
        with must_fail("ENODEV", "an export of a closed device cannot be mapped"):
            setting.map()
        return
    if undo:
        undo(setting.nvme.device)
        setting.must_be_refused(old, 0, f"after the end of {trigger}")
    setting.nvme.start()
    setting.nvme.pmr()
    seen = setting.write(setting.map(), PAGE)
    must(seen == (Result.ARRIVED, 0, True), f"after {trigger} a new mapping of the same fd reaches the BAR", seen)
    setting.must_be_refused(old, 0, f"after {trigger} and a new mapping")

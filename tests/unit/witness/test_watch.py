# SPDX-License-Identifier: GPL-2.0-only
"""Test all witnesses over one case, on a machine of files: complete, bounded, and usable after the machine's end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import GuestCrashed, HarnessError
from harness.witness import Doorbell, Witnesses
from harness.witness.watch import MAX_EVIDENCE


class FakeQmp:
    def __init__(self, machine: "FakeMachine") -> None:
        self.machine = machine
        self.missing: set[str] = set()
        self.enabled: set[str] = set()

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = 1.0) -> Any:
        if self.machine.dead:
            raise HarnessError("the link to QEMU is lost")
        if command == "trace-event-set-state":
            assert arguments is not None
            self.enabled |= {arguments["name"]} - self.missing
        if command == "trace-event-get-state":
            assert arguments is not None
            return [{"state": "enabled" if arguments["name"] in self.enabled else "unavailable"}]
        if command == "query-status":
            self.machine.flush()
        return {}


class FakeConsole:
    def __init__(self) -> None:
        self.text = ""

    def mark(self) -> int:
        return len(self.text)

    def since(self, mark: int, limit: int = 0) -> str:
        return self.text[mark:]


class FakeMachine:
    """Its trace reaches the file only with a QMP round trip: the worst case for the witnesses."""

    def __init__(self, directory: Path) -> None:
        self.trace_path = directory / "trace"
        self.iommu_type = "intel-iommu"
        self.device_logs: dict[str, Path] = {}
        self.qmp = FakeQmp(self)
        self.console = FakeConsole()
        self.lost: BaseException | None = None
        self.dead = False
        self.stderr = ""
        self._unwritten = ""

    def traces(self, line: str) -> None:
        self._unwritten += line + "\n"

    def flush(self) -> None:
        with self.trace_path.open("a") as file:
            file.write(self._unwritten)
        self._unwritten = ""

    def stderr_tail(self) -> str:
        return self.stderr


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_case_sees_only_what_happened_in_it(machine: FakeMachine) -> None:
    machine.traces("pci_nvme_mmio_doorbell_sq sqid 0 new_tail 1")
    machine.console.text = "WARNING: a.c:1 at before+0x1/0x2\n"
    watch = Witnesses(machine).watch()
    machine.traces("pci_nvme_mmio_doorbell_sq sqid 0 new_tail 2")
    machine.traces("vtd_dmar_fault sid 0x200 fault 5 addr 0x2000000 write 1")
    machine.console.text += "WARNING: b.c:2 at during+0x1/0x2\n---[ end trace 0000000000000000 ]---\n"
    machine.stderr += "qemu-system-x86_64: warning: Blocked re-entrant IO on MemoryRegion: nvme at addr: 0x1000\n"
    seen = watch.collect()
    assert seen.doorbells == [Doorbell("sq", 0, 2)]
    assert [fault.device for fault in seen.faults] == ["0000:02:00.0"]
    assert [splat.title for splat in seen.splats] == ["WARNING in during at b.c:2"]
    assert seen.invalid is not None
    assert [item.source for item in seen.evidence] == ["trace", "trace", "console", "host"]
    assert all(0 <= item.t < 5 for item in seen.evidence)


def test_dead_machine_can_still_be_read(machine: FakeMachine) -> None:
    watch = Witnesses(machine).watch()
    machine.traces("pci_nvme_mmio_doorbell_sq sqid 0 new_tail 7")
    machine.flush()
    machine.dead = True
    assert watch.collect().doorbells == [Doorbell("sq", 0, 7)]
    machine.lost = GuestCrashed("panic")
    assert watch.collect().doorbells == [Doorbell("sq", 0, 7)]


def test_evidence_is_bounded_and_says_so(machine: FakeMachine) -> None:
    watch = Witnesses(machine).watch()
    for value in range(1000):
        machine.traces(f"pci_nvme_mmio_doorbell_sq sqid 0 new_tail {value}")
    seen = watch.collect()
    assert len(seen.doorbells) == 1000
    assert len(seen.evidence) == MAX_EVIDENCE + 1
    assert f"({1000 - MAX_EVIDENCE} more)" in [item.text for item in seen.evidence]
    assert seen.evidence[-1].text.endswith("= 999")


def test_one_refused_dma_is_one_item_of_evidence(machine: FakeMachine) -> None:
    watch = Witnesses(machine).watch()
    for address in range(0x3FFD80C0, 0x3FFD8100, 4):
        machine.traces(f"vtd_dmar_fault sid 0x100 fault 6 addr {address:#x} write 0")
    seen = watch.collect()
    assert len(seen.faults) == 16
    assert [item.text for item in seen.evidence] == [
        "DMA fault: DMA read by 0000:01:00.0 to 0x3ffd80c0 refused, reason 0x6, and 15 more in this page"
    ]


def test_qemu_without_a_trace_event_is_refused(machine: FakeMachine) -> None:
    machine.qmp.missing = {"vtd_dmar_fault"}
    with pytest.raises(HarnessError, match="vtd_dmar_fault"):
        Witnesses(machine)

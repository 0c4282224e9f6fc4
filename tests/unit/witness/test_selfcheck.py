# SPDX-License-Identifier: GPL-2.0-only
"""Test the witnesses' self-checks, on a machine of files: a witness that sees passes, and a blind one is named."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import AgentError, BlindWitness, GuestCrashed, KernelErrno
from harness.run.judge import judge
from harness.verdict import Verdict
from harness.witness import Doorbell, Witnesses, prove, prove_devices, selfcheck
from harness.witness.iommu_maps import IommuMaps

# QEMU's lines for the writes of selfcheck.RINGS, in order.
RUNG = (
    "pci_nvme_mmio_doorbell_sq sqid 0 new_tail 0",
    "pci_nvme_mmio_doorbell_cq cqid 0 new_head 0",
    "pci_nvme_ub_db_wr_invalid_sqtail submission queue doorbell write value beyond queue size, "
    "sqid=0, new_head=65535, ignoring",
    "pci_nvme_ub_db_wr_invalid_cqhead completion queue doorbell write value beyond queue size, "
    "cqid=0, new_head=65535, ignoring",
    "pci_nvme_ub_db_wr_invalid_sq submission queue doorbell write for nonexistent queue, sqid=60, ignoring",
    "pci_nvme_ub_db_wr_invalid_cq completion queue doorbell write for nonexistent queue, cqid=60, ignoring",
    "pci_nvme_ub_db_wr_misaligned doorbell write not 32-bit aligned, offset=0x1002, ignoring",
)
ADDRESS = 0x5000000000
REQUESTER = "0000:01:00.0"
FAULT = f"vtd_dmar_fault sid 0x100 fault 6 addr {ADDRESS:#x} write 0"


class FakeConsole:
    def __init__(self) -> None:
        self.text = ""

    def mark(self) -> int:
        return len(self.text)

    def since(self, mark: int, limit: int = 0) -> str:
        return self.text[mark:]


class FakeQmp:
    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = 1.0) -> Any:
        return [{"state": "enabled"}] if command == "trace-event-get-state" else {}


class FakeMachine:
    """Its stderr is that of a process."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.trace_path = directory / "trace"
        self.iommu_type = "intel-iommu"
        self.stderr_path = directory / "stderr"
        self.pid = pid
        self.device_logs: dict[str, Path] = {}
        self.qmp = FakeQmp()
        self.console = FakeConsole()
        self.lost: BaseException | None = None
        self.kept = [SimpleNamespace(name="RESUME")]
        self.events = SimpleNamespace(since=lambda mark: self.kept[mark:])

    def stderr_tail(self) -> str:
        return ""


class FakeGuest:
    """Performs the actions of a self-check; ``rung``, ``fault`` and ``printed`` are the machine's responses."""

    has_controller = True
    has_iommu = True
    prefix = "2026-11-21T13:24:17.763312Z "

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self.rung: Sequence[str] = RUNG
        self.fault = FAULT
        self.refused: int | None = ADDRESS
        self.hidden = ""

    def requester(self) -> str:
        return REQUESTER

    def controllers(self) -> list[str]:
        return [REQUESTER]

    def ring(self, controller: str, writes: Sequence[tuple[int, int, int]]) -> None:
        assert len(writes) == len(RUNG)
        self._traces(*self.rung)

    def fetch(self) -> int | None:
        self._traces(self.fault)
        return self.refused

    def log(self, text: str) -> None:
        level, _, record = text.partition(">")
        if level != self.hidden:
            self._machine.console.text += "".join(f"[    3.141592] {line}\n" for line in record.splitlines())

    def _traces(self, *lines: str) -> None:
        with self._machine.trace_path.open("a") as file:
            file.writelines(f"{self.prefix}{line}\n" for line in lines)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FakeMachine]:
    with (tmp_path / "stderr").open("ab") as stderr, subprocess.Popen(["sleep", "60"], stderr=stderr) as process:
        yield FakeMachine(tmp_path, process.pid)
        process.kill()


@pytest.fixture
def guest(machine: FakeMachine) -> FakeGuest:
    return FakeGuest(machine)


@pytest.mark.parametrize("prefix", [FakeGuest.prefix, "30211@1795207914.229974:", ""])
def test_witnesses_that_see_pass(machine: FakeMachine, guest: FakeGuest, prefix: str) -> None:
    guest.prefix = prefix
    witnesses = Witnesses(machine)
    prove(witnesses, machine, guest)
    watch = witnesses.watch()
    assert watch.doorbells() == watch.faults() == watch.splats() == []


@pytest.mark.parametrize("absent", RUNG)
def test_each_kind_of_doorbell_must_be_seen(machine: FakeMachine, guest: FakeGuest, absent: str) -> None:
    guest.rung = [line for line in RUNG if line != absent]
    with pytest.raises(BlindWitness, match=r"blind witness, doorbell trace: .*; not seen: [sc]q"):
        prove(Witnesses(machine), machine, guest)


def test_trace_in_an_unknown_format_is_blindness_not_silence(machine: FakeMachine, guest: FakeGuest) -> None:
    guest.prefix = "Sat Nov 21 13:24:17 2026 "
    with pytest.raises(BlindWitness, match="none was seen; the trace continues with 'Sat Nov 21 13:24:17") as caught:
        prove(Witnesses(machine), machine, guest)
    assert judge([caught.value], []).verdict is Verdict.ERROR


def test_trace_that_qemu_does_not_write_is_blindness(machine: FakeMachine, guest: FakeGuest) -> None:
    guest.rung = []
    with pytest.raises(BlindWitness, match=r"doorbell trace: .*; none was seen; the trace did not grow"):
        prove(Witnesses(machine), machine, guest)


@pytest.mark.parametrize(
    "fault",
    ["", FAULT.replace("0x100", "0x200"), FAULT.replace("0x5000000000", "0x2000000"), FAULT.replace("write 0", "")],
)
def test_fault_must_be_seen_as_it_happened(machine: FakeMachine, guest: FakeGuest, fault: str) -> None:
    guest.fault = fault
    with pytest.raises(BlindWitness, match=f"IOMMU fault trace: {REQUESTER} was refused a DMA read from 0x5000000000"):
        prove(Witnesses(machine), machine, guest)


def test_dma_that_is_not_refused_proves_nothing(machine: FakeMachine, guest: FakeGuest) -> None:
    guest.refused = None
    with pytest.raises(BlindWitness, match="IOMMU fault trace: no DMA could be made to fault"):
        prove(Witnesses(machine), machine, guest)


def test_unused_witness_is_not_checked(machine: FakeMachine, guest: FakeGuest) -> None:
    guest.fault, guest.has_iommu = "", False
    prove(Witnesses(machine), machine, guest)
    guest.rung, guest.has_controller = [], False
    prove(Witnesses(machine), machine, guest)


def test_console_that_hides_warnings_is_blind(
    machine: FakeMachine, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfcheck, "CONSOLE_S", 0.02)
    guest.hidden = "<4"
    with pytest.raises(BlindWitness, match="blind witness, console: a WARNING in the kernel's log was not found"):
        prove(Witnesses(machine), machine, guest)


def test_end_of_the_guest_is_raised_as_it_is(machine: FakeMachine, guest: FakeGuest) -> None:
    guest.hidden, machine.lost = "<4", GuestCrashed("panic")
    with pytest.raises(GuestCrashed):
        prove(Witnesses(machine), machine, guest)


def test_stderr_that_goes_elsewhere_is_blind(machine: FakeMachine, guest: FakeGuest, tmp_path: Path) -> None:
    machine.stderr_path = tmp_path / "other"
    machine.stderr_path.touch()
    with pytest.raises(BlindWitness, match="blind witness, QEMU's stderr"):
        prove(Witnesses(machine), machine, guest)


def test_events_that_do_not_arrive_are_blindness(machine: FakeMachine, guest: FakeGuest) -> None:
    machine.kept = []
    with pytest.raises(BlindWitness, match="blind witness, QMP events"):
        prove(Witnesses(machine), machine, guest)


@pytest.mark.parametrize("error", [KernelErrno("open resource0", 1), AgentError("NVMe CSTS.RDY: not within 5 s")])
def test_failing_stimulus_blames_the_check_not_the_kernel(
    machine: FakeMachine, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(controller: str, writes: object) -> None:
        raise error

    monkeypatch.setattr(guest, "ring", refuse)
    with pytest.raises(BlindWitness, match=r"doorbell trace: its self-check could not be made: .*(EPERM|CSTS)"):
        prove(Witnesses(machine), machine, guest)


def test_map_trace_that_never_showed_a_map_is_blind(machine: FakeMachine) -> None:
    maps = IommuMaps(machine)
    with pytest.raises(BlindWitness, match="blind witness, IOMMU map trace"):
        maps.since(0, 0, 1)
    machine.trace_path.write_text(
        "virtio_iommu_map domain=1 virt_start=0x4000600000 virt_end=0x4000600fff phys_start=0x1000 flags=3\n"
    )
    assert maps.since(0, 0xFE801000, 0x1000) == []


OWN = "0000:02:00.0"


def log_device(machine: FakeMachine, *events: Mapping[str, Any]) -> None:
    path = machine.device_logs.setdefault("own", machine.trace_path.with_name("own.jsonl"))
    with path.open("a") as file:
        file.writelines(json.dumps({"t": time.monotonic(), **event}) + "\n" for event in events)


class GuestOfOwnDevice(FakeGuest):
    """Its second controller is a vfio-user device, which logs what ``seen`` says of each doorbell."""

    seen: Sequence[Doorbell] = tuple(doorbell for _, doorbell in selfcheck.RINGS)

    def controllers(self) -> list[str]:
        return [REQUESTER, OWN]

    def ring(self, controller: str, writes: Sequence[tuple[int, int, int]]) -> None:
        if controller == REQUESTER:
            super().ring(controller, writes)
            return
        for bell in self.seen:
            fields = {"queue": bell.queue, "qid": bell.qid, "value": bell.value, "accepted": bell.accepted}
            log_device(self._machine, {"event": "doorbell", **fields})


def test_a_device_log_that_sees_passes(machine: FakeMachine) -> None:
    log_device(machine, {"event": "connected"}, {"event": "read", "region": 7, "offset": 0, "data": "00"})
    prove(Witnesses(machine), machine, GuestOfOwnDevice(machine))


def test_a_device_log_without_the_accesses_of_the_boot_is_blind(machine: FakeMachine) -> None:
    log_device(machine, {"event": "connected"})
    with pytest.raises(BlindWitness, match="blind witness, device log: no access since the boot in the log of own"):
        prove(Witnesses(machine), machine, GuestOfOwnDevice(machine))


@pytest.mark.parametrize("absent", GuestOfOwnDevice.seen)
def test_each_kind_of_doorbell_must_be_in_the_device_log(machine: FakeMachine, absent: Doorbell) -> None:
    log_device(machine, {"event": "read", "region": 7, "offset": 0, "data": "00"})
    guest = GuestOfOwnDevice(machine)
    guest.seen = [bell for bell in guest.seen if bell != absent]
    with pytest.raises(BlindWitness, match=f"doorbell trace: .* of {OWN}; not seen: [sc]q"):
        prove(Witnesses(machine), machine, guest)


def test_a_device_that_becomes_faulty_is_found_later(machine: FakeMachine) -> None:
    log_device(machine, {"event": "read", "region": 7, "offset": 0, "data": "00"})
    guest = GuestOfOwnDevice(machine)
    witnesses = Witnesses(machine)
    prove(witnesses, machine, guest)
    prove_devices(witnesses, machine, guest)
    guest.seen = guest.seen[1:]
    with pytest.raises(BlindWitness, match=f"doorbell trace: .* of {OWN}; not seen: sq 0"):
        prove_devices(witnesses, machine, guest)

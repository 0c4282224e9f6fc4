# SPDX-License-Identifier: GPL-2.0-only
"""Registers that revoke, written by 1, 2 and 4 bytes, and together with their neighbours by one write."""

from dataclasses import dataclass

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Device, DmaBuf, Importer, Nvme, Session
from harness.session.device import Register
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("lifecycle")

Shape = tuple[int, int]
"""How many bytes before the register a write begins, and its length."""


@dataclass(frozen=True)
class RegisterWrite:
    """A write of a register that revokes."""

    register: Register
    mask: int
    """The bits that decide."""
    revokes: int
    """Their value that revokes."""
    restores: int | None
    """Their value that un-revokes; None if the register does both at once."""
    shapes: tuple[Shape, ...]
    """The writes. vfio splits a write into aligned pieces of up to 4 bytes (vfio_pci_config_rw_single)."""
    harmless: tuple[Shape, ...]
    """Writes of the register's other bytes, and of its neighbours."""


HEADER: Shape = (4, 64)
"""The whole header: COMMAND between the device's ids and its BARs."""
REGISTER_WRITES = {
    "COMMAND": RegisterWrite("COMMAND", 2, 0, 2, ((0, 1), (0, 2), (0, 4), (1, 2), (3, 5), HEADER), ((-1, 1), (-2, 2))),
    "PMCSR": RegisterWrite("PMCSR", 3, 3, 0, ((0, 1), (0, 2), (0, 4), (1, 3), (4, 8)), ((-1, 1), (4, 4))),
    "DEVCTL": RegisterWrite("DEVCTL", 0x8000, 0x8000, None, ((-1, 1), (0, 4), (8, 16)), ((0, 1), (-2, 2))),
}


def write(device: Device, change: RegisterWrite, shape: Shape, value: int) -> None:
    """Write the register in one of its shapes."""
    device.modify_config(change.register, *shape, clear=change.mask, value=value)


@rows("lifecycle.config-writes")
@pytest.mark.parametrize("register", REGISTER_WRITES)
@importers("iommufd+nvme")
def test_each_width_revokes(nvme: Nvme, attach: Attach, importer: Importer, register: str, watch: Watch) -> None:
    """A register revokes and un-revokes once, however many bytes a write has, and its neighbours never do."""
    change = REGISTER_WRITES[register]
    buffer = nvme.export_doorbells()
    device, attachment = nvme.device, attach(buffer)
    for shape in change.shapes:
        what = f"a write of {shape[1]} bytes that begins {shape[0]} bytes before {register}"
        before = attachment.notifications()
        window = importer.attach(buffer)
        attachment.map()
        write(device, change, shape, change.revokes)
        queued = nvme.queue_identify()
        must(not attachment.mapped(), f"{what} revokes", attachment.events())
        must_be_blocked(ring_once(queued, window, watch), f"{what} revokes each mapping")
        if change.restores is not None:
            must(attachment.notifications() == before + 1, f"{what} notifies once", attachment.events()[-4:])
            with must_fail("ENODEV", f"{what} revokes until it is undone"):
                attachment.map()
            write(device, change, shape, change.restores)
        must(
            attachment.notifications() == before + 2, f"{what} un-revokes, and notifies once", attachment.events()[-4:]
        )
        attachment.map()
        attachment.unmap()
    nvme.start()
    window = importer.attach(buffer)
    before = attachment.notifications()
    for start, length in change.harmless:
        device.modify_config(change.register, start, length, clear=0, value=0)
        what = f"a write of {length} bytes beside {register}'s deciding bits"
        must(attachment.notifications() == before, f"{what} notifies no importer", attachment.events()[-4:])
    must_arrive(ring(nvme, window, watch), f"writes beside {register}'s deciding bits disturb no mapping")


COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, INTX_DISABLE = 1, 2, 4, 0x400
READRQ, READRQ_1024 = 0x7000, 0x3000
"""COMMAND.INTX_DISABLE and DEVCTL.READRQ (include/uapi/linux/pci_regs.h), whose writes vfio emulates."""
INTX_SHAPES: tuple[Shape, ...] = ((0, 2), (-1, 1))
STATUS: Shape = (-2, 2)


@rows("lifecycle.emulated-bits")
@importers("iommufd+nvme")
def test_emulated_bits_reach_the_device(
    nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """COMMAND.INTX_DISABLE reaches the device, READRQ reads as it was written, and a write of them revokes nothing."""
    device, attachment, window = nvme.device, attach(buffer), importer.attach(buffer)
    for start, length in INTX_SHAPES:
        what = f"a write of {length} bytes that begins {start} bytes before COMMAND"
        for on in (INTX_DISABLE, 0):
            device.modify_config("COMMAND", start, length, clear=INTX_DISABLE, value=on)
            for neighbour in (STATUS, (start, length)):
                device.modify_config("COMMAND", *neighbour, clear=0, value=0)
            found = device.hardware_register("COMMAND") & INTX_DISABLE
            must(found == on, f"{what} sets and clears the device's INTX_DISABLE", hex(found))
    device.modify_config("DEVCTL", 0, 2, clear=READRQ, value=READRQ_1024)  # QEMU's devices have no READRQ
    found = device.register("DEVCTL") & READRQ
    must(found == READRQ_1024, "DEVCTL.READRQ reads as it was written", hex(found))
    must(not attachment.notifications(), "writes of emulated bits notify no importer", attachment.events())
    must_arrive(ring(nvme, window, watch), "writes of emulated bits disturb no mapping")


CONFIG = 7
"""VFIO_PCI_CONFIG_REGION_INDEX (include/uapi/linux/vfio.h)."""
BAR0, BAR_BYTES, BAR_FLAGS = 0x10, 8, 0xF
"""The 64-bit BAR 0 of an NVMe controller in config space, and its bits that are no address."""


@rows("lifecycle.bar-size")
def test_a_bar_reads_its_size(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """A BAR to which ones were written reads its size, then the address that is written, and the device's BAR stays."""
    device, attachment, size = nvme.device, attach(buffer), bars(session, UNDER_TEST)[REGISTERS].size
    before, hardware = device.read(CONFIG, BAR0, BAR_BYTES), device.hardware_bars()
    device.write(CONFIG, BAR0, b"\xff" * BAR_BYTES)
    found = int.from_bytes(device.read(CONFIG, BAR0, BAR_BYTES), "little")
    expected = (1 << 64) - size | before[0] & BAR_FLAGS
    must(found == expected, "a BAR to which ones were written reads its size", f"{found:#x}")
    device.write(CONFIG, BAR0, before)
    must(device.read(CONFIG, BAR0, BAR_BYTES) == before, "a BAR reads the address that was written")
    must(device.hardware_bars() == hardware, "writes of a BAR leave the device's own", device.hardware_bars().hex())
    must(not attachment.notifications(), "writes of a BAR notify no importer", attachment.events())


RESTORING = "vfio_bar_restore: reset recovery - restoring BARs"
"""What vfio_bar_restore() logs (drivers/vfio/pci/vfio_pci_config.c)."""
LOSSES = [(True, False), (False, True), (True, True)]
"""Which of COMMAND and the BARs a device loses."""


@rows("lifecycle.lost-config")
@importers("iommufd+nvme")
def test_a_lost_configuration_is_restored(
    nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A write of COMMAND restores BARs and MEM that a device lost behind vfio's back, and notifies no importer."""
    device, attachment, window = nvme.device, attach(buffer), importer.attach(buffer)
    on = COMMAND_MEMORY | COMMAND_MASTER
    for command, addresses in LOSSES:
        before = device.lose_config(command=command, bars=addresses)
        device.modify_config("COMMAND", 0, 2, clear=0, value=on)
        must(device.hardware_bars() == before, "a write of COMMAND restores the BARs", device.hardware_bars().hex())
        must(device.hardware_register("COMMAND") & on == on, "a write of COMMAND enables memory again")
    must_arrive(ring(nvme, window, watch), "a mapping outlives a loss of the device's configuration")
    must(not attachment.notifications(), "a loss behind vfio's back notifies no importer", attachment.events())


@rows("lifecycle.lost-config")
def test_what_is_not_lost_is_not_restored(session: Session, nvme: Nvme) -> None:
    """A write of COMMAND that disables memory, enables it or leaves it restores no BAR of a device that lost none."""
    device, log = nvme.device, session.kernel_log()

    def restores() -> int:
        return sum(message.endswith(RESTORING) for message in log.read())

    device.lose_config(command=True, bars=True)
    device.set_memory(True)
    must((found := restores()) == 1, "a write of COMMAND restores lost BARs once", found)
    for on in (True, False, False, True):
        device.set_memory(on)
        must(not restores(), f"a write of COMMAND.MEM {on:d} restores no BARs that are not lost")


@rows("lifecycle.lost-config")
def test_lost_io_is_restored(session: Session, pci_testdev: str | None) -> None:
    """A write of COMMAND restores BARs and IO that a device lost behind vfio's back."""
    if not pci_testdev:
        pytest.skip(f"machine {session.machine.config.name} has no pci-testdev, the device with an I/O BAR")
    device = session.open_device(pci_testdev)
    device.modify_config("COMMAND", 0, 2, clear=0, value=COMMAND_IO)
    for command, addresses in LOSSES:
        before = device.lose_config(command=command, bars=addresses)
        device.modify_config("COMMAND", 0, 2, clear=0, value=COMMAND_IO)
        must(device.hardware_bars() == before, "a write of COMMAND restores the BARs", device.hardware_bars().hex())
        must(device.hardware_register("COMMAND") & COMMAND_IO, "a write of COMMAND enables I/O again")

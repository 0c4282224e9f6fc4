# SPDX-License-Identifier: GPL-2.0-only
"""Revoke: once the device is reset, disabled or closed, no old mapping reaches it; the same fd can be mapped anew."""

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_during, ring_once
from harness.session import Importer, Nvme, Session
from harness.session.nvme import REGISTERS
from harness.witness import Watch

PAGE = 0x1000


@pytest.mark.contract("revoke", "lifecycle.reset")
def test_reset_revokes(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """VFIO_DEVICE_RESET kills every mapping for good, and the same fd can be mapped again."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before the reset the mapping is live")

    nvme.device.reset()
    nvme.start()
    result = ring(nvme, old, watch)
    must_be_blocked(result, "a mapping made before VFIO_DEVICE_RESET does not reach the device after it")

    new = importer.attach(buffer)
    must_arrive(ring(nvme, new, watch), "after VFIO_DEVICE_RESET a new mapping of the same fd is live")
    must_be_blocked(ring(nvme, old, watch), "a mapping made before VFIO_DEVICE_RESET stays dead beside a new one")


@pytest.mark.contract("revoke", "lifecycle.reset")
def test_reset_revokes_under_fire(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """While VFIO_DEVICE_RESET runs, each ring either arrives or is refused, and none arrives after one was refused."""
    window = importer.attach(nvme.export_doorbells())
    queued = nvme.queue_identify()
    volley = ring_during(session.start(nvme.device.reset), queued, window, watch)
    must(volley.orderly, "until the revoke a ring arrives, and from then on every ring is refused", volley)
    must(volley.rings[-1].blocked, "VFIO_DEVICE_RESET does not return before the mapping is dead", volley.rings[-1])


@pytest.mark.contract("revoke", "lifecycle.command-mem")
def test_memory_disable_revokes(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """COMMAND.MEM 1-0-1 revokes and un-revokes: old mappings are dead, the same fd can be mapped again."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before COMMAND.MEM is cleared the mapping is live")

    nvme.device.set_memory(False)
    result = ring(nvme, old, watch, queued=(queued := nvme.queue_identify()))
    must_be_blocked(result, "while COMMAND.MEM is clear no mapping reaches the device")
    with must_fail("ENODEV", "while COMMAND.MEM is clear the buffer cannot be mapped"):
        importer.attach(buffer)

    nvme.device.set_memory(True)
    result = ring(nvme, old, watch, queued=queued)
    must_be_blocked(result, "a mapping made before COMMAND.MEM was cleared stays dead once it is set")
    result = ring(nvme, importer.attach(buffer), watch, queued=queued)
    must_arrive(result, "once COMMAND.MEM is set a new mapping of the same fd is live")


@pytest.mark.contract("revoke", "lifecycle.close")
def test_close_revokes(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """The device's last close revokes for ever: old mappings are dead, and the fd cannot be mapped again."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), "before the close the mapping is live")

    queued = nvme.queue_identify()
    nvme.device.close()
    must_be_blocked(ring_once(queued, old, watch), "after the device's last close no mapping reaches it")
    with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
        importer.attach(buffer)
    must(buffer.size() == 4096, "the fd stays valid", buffer.size())

    again = session.open_nvme()
    must_be_blocked(ring(again, old, watch), "a mapping of a closed device does not reach the device opened anew")
    with must_fail("ENODEV", "a buffer of a closed device stays dead when the device is opened anew"):
        importer.attach(buffer)


@pytest.mark.contract("revoke", "importers.page-table")
@pytest.mark.needs("iommu_debugfs")
@pytest.mark.parametrize("importer", ["iommufd+nvme", "rxe", "dma-api+edu"], indirect=True)
def test_page_table_is_cut(session: Session, nvme: Nvme, importer: Importer) -> None:
    """The IOMMU's page table leads to the buffer as long as a mapping is live, and no entry of it any longer."""
    device, buffer = nvme.device, nvme.device.export(REGISTERS, [(0, 3 * PAGE)])
    if (entries := session.page_table_entries(importer, device, buffer)) is None:
        pytest.skip(f"the kernel dumps no page table of {importer.device_id}'s: no IOMMU of Intel's translates for it")
    must(entries == 0, "before it is mapped no entry points into the buffer", entries)
    for name, act, undo in (
        ("COMMAND.MEM 0", lambda: device.set_memory(False), lambda: device.set_memory(True)),
        ("VFIO_DEVICE_RESET", device.reset, None),
        ("D3hot", lambda: device.set_power_state(3), lambda: device.set_power_state(0)),
        ("the close", device.close, None),
    ):
        importer.attach(buffer)
        entries = session.page_table_entries(importer, device, buffer)
        must(entries == 3, f"before {name} an entry points to each page of the buffer", entries)
        act()
        entries = session.page_table_entries(importer, device, buffer)
        must(entries == 0, f"after {name} no entry points into the buffer", entries)
        if undo:
            undo()

# SPDX-License-Identifier: GPL-2.0-only
"""SR-IOV: a virtual function as the exporter, and a physical function whose virtual functions are enabled."""

import pytest

from harness.cases.constants import UNDER_TEST, PCI_D3hot
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.errors import KernelErrno
from harness.session import Importer, Nvme, Session, pci
from harness.session.sriov import VirtualFunctions, open_pf, open_vf
from harness.witness import Watch

pytestmark = pytest.mark.machine("sriov")
rows = rows_in("sriov")

VFS = 1


@pytest.fixture
def vf(session: Session) -> Nvme:
    """A virtual function, online and started. The case leaves its PF alone: a reset of the PF disables VFs."""
    pf = open_pf(session, UNDER_TEST)
    pf.free_flexible_resources()
    pf.device.reset()
    pf.start()
    functions = VirtualFunctions(session, UNDER_TEST, VFS)
    pf.bring_online(1)
    return open_vf(session, functions, 0)


@rows("lifecycle.vf")
@importers("iommufd+nvme", "rxe", "dma-api+edu")
def test_vf_memory_has_no_enable_bit(vf: Nvme, importer: Importer, watch: Watch) -> None:
    """COMMAND.MEM 0 revokes the mappings of a VF for good, but new ones are made at once: its memory stays on."""
    buffer = vf.export_doorbells()
    old = importer.attach(buffer)
    must_arrive(ring(vf, old, watch), "a mapping of a VF reaches it")
    queued = vf.queue_identify()
    vf.device.set_memory(False)
    must_be_blocked(ring_once(queued, old, watch), "a mapping that was made before COMMAND.MEM 0 is dead for good")
    windows = [importer.attach(buffer), importer.attach(vf.export_doorbells())]
    # QEMU 7.2 hides a VF's BARs while COMMAND.MEM is clear, so what is mapped can be used only after that.
    vf.device.set_memory(True)
    must_be_blocked(ring_once(queued, old, watch), "a mapping that was made before COMMAND.MEM 0 stays dead after it")
    must_arrive(ring(vf, windows[0], watch, queued=queued), "a mapping made with COMMAND.MEM 0 is live")
    must_arrive(ring(vf, windows[1], watch), "a mapping of an export made with COMMAND.MEM 0 is live")


@rows("lifecycle.vf")
@importers("iommufd+nvme", "rxe")
def test_vf_reset_revokes(vf: Nvme, importer: Importer, watch: Watch) -> None:
    """VFIO_DEVICE_RESET of a VF revokes for good and un-revokes after it, also with COMMAND.MEM 0."""
    buffer = vf.export_doorbells()
    for memory in (True, False):
        old = importer.attach(buffer)
        must_arrive(ring(vf, old, watch), "before the reset a mapping of a VF is live")
        vf.device.set_memory(memory)
        vf.device.reset()
        new = importer.attach(buffer)
        vf.device.set_memory(True)
        vf.start()
        must_be_blocked(ring(vf, old, watch), "a mapping of a VF that was made before its reset is dead for good")
        must_arrive(ring(vf, new, watch), "a mapping of a VF that was made after its reset is live")


@rows("lifecycle.sriov", "lifecycle.power")
@importers("iommufd+nvme")
def test_enabling_vfs_unrevokes(session: Session, importer: Importer, watch: Watch) -> None:
    """Enabling VFs wakes a PF from D3hot to D0, and its buffers can be mapped again."""
    pf = open_pf(session, UNDER_TEST)
    buffer = pf.export_doorbells()
    pf.device.set_power_state(PCI_D3hot)
    with must_fail("ENODEV", "a buffer of a PF in D3hot cannot be mapped"):
        importer.attach(buffer)
    VirtualFunctions(session, UNDER_TEST, VFS)
    state = pci.power_state(session, UNDER_TEST)
    must(state == "D0", "the kernel wakes a PF to enable its VFs", state)
    try:
        window = importer.attach(buffer)
    except KernelErrno as refusal:
        must(False, "a buffer of a PF that the kernel has woken to D0 can be mapped", refusal)
    pf.start()
    must_arrive(ring(pf, window, watch), "a new mapping of a PF that the kernel has woken reaches it")

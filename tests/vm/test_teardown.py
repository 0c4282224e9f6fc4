# SPDX-License-Identifier: GPL-2.0-only
"""The end: device, dma-buf, mapping and process go in every order, and leave nothing behind."""

from itertools import permutations

import pytest

from harness import probe
from harness.contract import must, must_fail
from harness.session import Importer, Nvme, Session
from harness.session.handle import Handle
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.witness import Watch

teardown = pytest.mark.contract("teardown", "lifecycle.teardown")


@teardown
@pytest.mark.needs("iommufd")
@pytest.mark.parametrize("importer", ["rxe"], indirect=True)
def test_every_order_of_closing(session: Session, importer: Importer, watch: Watch) -> None:
    """In whatever order device, dma-buf and mappings are closed, each goes at once, and the device opens again."""
    importers = (importer, session.importer("iommufd+nvme"))
    for order in permutations(("device", "buffer", "mappings")):
        device = session.open_device("nvme0")
        buffer = device.export(REGISTERS, [DOORBELL_PAGE])
        held: dict[str, list[Handle]] = {"device": [device], "buffer": [buffer]}
        held["mappings"] = [each.attach(buffer) for each in importers]
        for name in order:
            for handle in held.pop(name):
                handle.close()
            left = session.bufinfo()
            wanted = bool(held.keys() & {"buffer", "mappings"})
            must(bool(left) == wanted, "a dma-buf lives as long as its fd and its mappings", f"{order} {name} {left}")
    nvme = session.open_nvme()
    rang = probe.ring(nvme, probe.queue_command(nvme), importer.attach(nvme.export_doorbells()), watch)
    must(rang.arrived, "after all that an export is live", rang)


@teardown
@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_a_killed_process_leaves_nothing(session: Session, importer: Importer, watch: Watch) -> None:
    """A process killed with any of device, dma-buf and iommufd open leaves no dma-buf, and a device that opens."""
    for closes in ([], ["buffer"], ["device"], ["iommufd"]):
        session.kill_with_open("nvme0", [DOORBELL_PAGE], closes)
        must(not session.bufinfo(), "no dma-buf outlives its process", f"{closes} {session.bufinfo()}")
    nvme = session.open_nvme()
    rang = probe.ring(nvme, probe.queue_command(nvme), importer.attach(nvme.export_doorbells()), watch)
    must(rang.arrived, "after all that an export is live", rang)


UNPLUG_WAITS = b"blocked until released by user"
"""What the kernel says of an unplug that waits for user space (vfio_pci_core_request)."""
ASKED_S = 5.0


@pytest.mark.contract("teardown", "lifecycle.unplug")
@pytest.mark.parametrize("importer", ["iommufd+nvme", "rxe"], indirect=True)
def test_unplug_revokes_by_the_close(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """An unplug waits until the device is closed, and with that revokes; plugged in again the device can be used."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    console = session.machine.console
    mark = console.mark()
    unplug = session.start(session.unplug, "nvme0")
    try:
        console.wait_for(UNPLUG_WAITS, timeout=ASKED_S * session.machine.slowdown, since=mark)
        rang = probe.ring(nvme, ticket := probe.queue_command(nvme), old, watch)
        must(rang.arrived and not unplug.done(), "an unplug waits for the close, and until then revokes nothing", rang)
    finally:
        nvme.device.close()
        unplug.result()
    try:
        shot = probe.shoot(ticket, old, watch)
        must(shot.blocked, "no mapping reaches a device that was unplugged", shot)
        with must_fail("ENODEV", "a buffer of a device that was unplugged cannot be mapped"):
            importer.attach(buffer)
    finally:
        session.rescan()
    again = session.open_nvme()
    rang = probe.ring(again, probe.queue_command(again), importer.attach(again.export_doorbells()), watch)
    must(rang.arrived, "a device that is plugged in again can be exported anew", rang)
    shot = probe.shoot(probe.queue_command(again), old, watch)
    must(shot.blocked, "a mapping from before the unplug does not reach it", shot)

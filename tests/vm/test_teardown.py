# SPDX-License-Identifier: GPL-2.0-only
"""The end: device, dma-buf, mapping and process end in every order, and leave nothing behind."""

from itertools import permutations

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.session.handle import Handle
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.session.teardown import kill_with_open
from harness.witness import Watch

rows = rows_in("teardown")

SIMULTANEOUS_IMPORTERS = ("iommufd+nvme", "dma-api+edu", "rxe")
"""One of each kind. iommufd+edu would need the edu device that dma-api+edu has."""


@rows("lifecycle.teardown")
@pytest.mark.needs("iommufd")
@importers("rxe")
def test_every_order_of_closing(session: Session, importer: Importer, watch: Watch) -> None:
    """Device, dma-buf and mappings can be closed in any order, without delay, and the device opens again."""
    both = (importer, session.importer("iommufd+nvme"))
    for order in permutations(("device", "buffer", "mappings")):
        device = session.open_device(UNDER_TEST)
        buffer = device.export(REGISTERS, [DOORBELL_PAGE])
        held: dict[str, list[Handle]] = {"device": [device], "buffer": [buffer]}
        held["mappings"] = [each.attach(buffer) for each in both]
        for name in order:
            for handle in held.pop(name):
                handle.close()
            left = session.bufinfo()
            wanted = bool(held.keys() & {"buffer", "mappings"})
            must(bool(left) == wanted, "a dma-buf lives as long as its fd and its mappings", f"{order} {name} {left}")
    nvme = session.open_nvme()
    must_arrive(ring(nvme, importer.attach(nvme.export_doorbells()), watch), "after each order an export is live")


@rows("lifecycle.teardown")
@importers("iommufd+nvme")
def test_a_killed_process_leaves_nothing(session: Session, importer: Importer, watch: Watch) -> None:
    """A process killed with device, dma-buf or iommufd open leaves no dma-buf, and the device opens again."""
    for closed in ([], ["buffer"], ["device"], ["iommufd"]):
        kill_with_open(session, UNDER_TEST, [DOORBELL_PAGE], closed)
        must(not session.bufinfo(), "no dma-buf outlives its process", f"{closed} {session.bufinfo()}")
    nvme = session.open_nvme()
    must_arrive(ring(nvme, importer.attach(nvme.export_doorbells()), watch), "after each kill an export is live")


@rows("lifecycle.unplug")
@pytest.mark.needs("unplug", "hotplug")
@importers("iommufd+nvme", "rxe", "dma-api+edu")
def test_unplug_revokes_by_the_close(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """An unplug requests the device and waits until its user closes it; that close revokes."""
    old = importer.attach(buffer)
    nvme.device.enable_request_irq()
    unplug = session.hotplug.start_unplug(UNDER_TEST)
    must(nvme.device.release_requested(), "an unplug requests the device from its user")
    queued = nvme.queue_identify()
    must_arrive(ring(nvme, old, watch, queued=queued), "an unplug revokes nothing before the close")
    must(not unplug.done(), "an unplug waits for the close")

    nvme.device.close()
    unplug.result()
    must_be_blocked(ring_once(queued, old, watch), "no mapping reaches a device that was unplugged")
    with must_fail("ENODEV", "a buffer of a device that was unplugged cannot be mapped"):
        importer.attach(buffer)

    session.hotplug.plug(UNDER_TEST)
    replugged = session.open_nvme()
    result = ring(replugged, importer.attach(replugged.export_doorbells()), watch)
    must_arrive(result, "an export of a replugged device is live")
    result = ring_once(replugged.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping made before the unplug does not reach the replugged device")


@rows("lifecycle.unplug")
@pytest.mark.needs("unplug", "dma-api", "hotplug", "rxe")
@importers("iommufd+edu", "iommufd+nvme", "dma-api+edu")
def test_an_importing_device_is_unplugged(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """The unplug of an importing device disturbs neither the exporter nor other importers, and delays no revoke."""
    other = session.importer("rxe").attach(buffer)
    window = importer.attach(buffer)
    must_arrive(ring(nvme, window, watch), "before the unplug the mapping is live")

    if device := importer.device:
        device.enable_request_irq()
    unplug = session.hotplug.start_unplug(importer.device_id)
    if device:
        must(device.release_requested(), "an unplug requests the importing device from its user")
        window.detach()
        session.release_device(importer.device_id)
    unplug.result()

    must_arrive(ring(nvme, other, watch), "the unplug of an importing device disturbs no other importer")
    nvme.device.reset()
    nvme.start()
    result = ring_once(nvme.queue_identify(), other, watch)
    must_be_blocked(result, "after the unplug of an importing device a reset revokes")

    session.release_device(importer.device_id)
    session.hotplug.plug(importer.device_id)
    replugged = session.importer(importer.kind.name)
    must_arrive(ring(nvme, replugged.attach(buffer), watch), "a replugged importing device reaches the same buffer")


@rows("lifecycle.reboot")
@pytest.mark.needs("iommufd", "dma-api", "rxe", "test_importer")
def test_reboot_does_not_wait(session: Session, nvme: Nvme, buffer: DmaBuf, watch: Watch) -> None:
    """A reboot completes while every kind of importer has a live mapping."""
    for name in SIMULTANEOUS_IMPORTERS:
        result = ring(nvme, session.importer(name).attach(buffer), watch)
        must_arrive(result, f"before the reboot the mapping of {name} is live")

    session.reboot()

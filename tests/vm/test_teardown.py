# SPDX-License-Identifier: GPL-2.0-only
"""The end: device, dma-buf, mapping and process go in every order, and leave nothing behind."""

from itertools import permutations

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import Importer, Nvme, Session
from harness.session.handle import Handle
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.witness import Watch

teardown = pytest.mark.contract("teardown", "lifecycle.teardown")

IMPORTERS_AT_ONCE = ("iommufd+nvme", "dma-api+edu", "rxe")
"""One of each kind that can be had at once."""


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
    must_arrive(ring(nvme, importer.attach(nvme.export_doorbells()), watch), "after all that an export is live")


@teardown
@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_a_killed_process_leaves_nothing(session: Session, importer: Importer, watch: Watch) -> None:
    """A process killed with any of device, dma-buf and iommufd open leaves no dma-buf, and a device that opens."""
    for closes in ([], ["buffer"], ["device"], ["iommufd"]):
        session.kill_with_open("nvme0", [DOORBELL_PAGE], closes)
        must(not session.bufinfo(), "no dma-buf outlives its process", f"{closes} {session.bufinfo()}")
    nvme = session.open_nvme()
    must_arrive(ring(nvme, importer.attach(nvme.export_doorbells()), watch), "after all that an export is live")


unplug_row = pytest.mark.contract("teardown", "lifecycle.unplug")


@unplug_row
@pytest.mark.needs("unplug", "hotplug")
@pytest.mark.parametrize("importer", ["iommufd+nvme", "rxe", "dma-api+edu"], indirect=True)
def test_unplug_revokes_by_the_close(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """An unplug asks for the device, waits until it is closed, and with that revokes; plugged in again it is as new."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    nvme.device.enable_request_irq()
    unplug = session.start(session.unplug, "nvme0")
    must(nvme.device.release_requested(), "who has a device open is asked to close it when it is unplugged")
    queued = nvme.queue_identify()
    result = ring(nvme, old, watch, queued=queued)
    must(result.arrived and not unplug.done(), "an unplug waits for the close, and until then revokes nothing", result)

    nvme.device.close()
    unplug.result()
    must_be_blocked(ring_once(queued, old, watch), "no mapping reaches a device that was unplugged")
    with must_fail("ENODEV", "a buffer of a device that was unplugged cannot be mapped"):
        importer.attach(buffer)

    session.plug("nvme0")
    again = session.open_nvme()
    result = ring(again, importer.attach(again.export_doorbells()), watch)
    must_arrive(result, "a device that is plugged in again can be exported anew")
    must_be_blocked(ring_once(again.queue_identify(), old, watch), "a mapping from before the unplug does not reach it")


@unplug_row
@pytest.mark.needs("unplug", "dma-api", "hotplug", "rxe")
@pytest.mark.parametrize("importer", ["iommufd+edu", "iommufd+nvme", "dma-api+edu"], indirect=True)
def test_an_importing_device_is_unplugged(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """An importing device can be unplugged: the exporter and its other importers go on, and no revoke waits for it."""
    buffer = nvme.export_doorbells()
    others = session.importer("rxe").attach(buffer)
    window = importer.attach(buffer)
    must_arrive(ring(nvme, window, watch), "before the unplug the mapping is live")

    if device := importer.device:
        device.enable_request_irq()
    unplug = session.start(session.unplug, importer.device_id)
    if device:
        must(device.release_requested(), "who drives the importing device is asked to close it")
        window.detach()
        session.release_device(importer.device_id)
    unplug.result()

    must_arrive(ring(nvme, others, watch), "the unplug of an importing device disturbs no other importer")
    nvme.device.reset()
    nvme.start()
    must_be_blocked(ring_once(nvme.queue_identify(), others, watch), "a reset after it revokes as ever")

    session.release_device(importer.device_id)
    session.plug(importer.device_id)
    again = session.importer(importer.kind.name)
    result = ring(nvme, again.attach(buffer), watch)
    must_arrive(result, "an importing device that is plugged in again reaches the same buffer")


@pytest.mark.contract("teardown", "lifecycle.reboot")
@pytest.mark.needs("iommufd", "dma-api", "rxe", "test_importer")
def test_reboot_waits_for_nobody(session: Session, nvme: Nvme, watch: Watch) -> None:
    """A reboot with live mappings of every kind of importer, and all that they stand on open, goes through."""
    buffer = nvme.export_doorbells()
    for name in IMPORTERS_AT_ONCE:
        result = ring(nvme, session.importer(name).attach(buffer), watch)
        must_arrive(result, f"before the reboot the mapping of {name} is live")

    session.reboot()

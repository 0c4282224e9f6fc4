# SPDX-License-Identifier: GPL-2.0-only
"""What only a device of our own can show: resets that take long, fail or hang, DMA at the wrong time, a lost device.

The devices are processes of the harness (docs/device.md). Each logs what it sees, with the host's clock: the third
observer, besides the guest and QEMU.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session, pci
from harness.session.nvme import REGISTERS
from harness.session.vfio_user import LateDma
from harness.witness import DeviceDma, Watch

rows = rows_in("lifecycle")
pytestmark = pytest.mark.machine("vfio-user")

WITH_AF = "af0"
"""A controller whose only function level reset is that of the Advanced Features capability."""
NO_QUEUE = 0x1000 + 8 * 60
"""Offset of a doorbell without a queue: the controller logs the write, and does nothing else."""
SLOW_S = 3.0
"""How long a slow reset takes."""
FAILS_S = 80.0
"""A device that is not ready after 60 s (PCIE_RESET_READY_POLL_MS) has not been reset."""
CLOCK_S = 0.01
"""How far Unix time and CLOCK_MONOTONIC may drift apart in a case."""
LOOK_S = 0.01
WAIT_S = 10.0
"""For what the devices do by themselves, on the host's clock."""


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something outside the guest. AssertionError, which is ERROR, if it does not happen."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:g} s"
        time.sleep(LOOK_S)


def resets(watch: Watch, device_id: str) -> list[str]:
    """Return the resets that the device saw."""
    return [event.fields["how"] for event in watch.device_events(device_id) if event.event == "reset"]


@rows("lifecycle.af-flr")
@importers("iommufd+edu", "iommufd+nvme", "rxe")
def test_af_flr_revokes(session: Session, attach: Attach, importer: Importer, watch: Watch) -> None:
    """An AF FLR through config space revokes before the reset and un-revokes after it."""
    nvme = session.open_nvme(WITH_AF)
    buffer = nvme.export_doorbells()
    attachment, old = attach(buffer), importer.attach(buffer)
    attachment.map()
    must_arrive(ring(nvme, old, watch), "before an AF FLR the mapping is live")
    seen = len(resets(watch, WITH_AF))
    nvme.device.af_flr()
    must(resets(watch, WITH_AF)[seen:] == ["af-flr"], "an AF FLR resets the device once", resets(watch, WITH_AF))
    must(nvme.device.af_control() == 0, "AF_CTRL reads as zero", nvme.device.af_control())
    must(attachment.notifications() == 2, "an AF FLR revokes and un-revokes", attachment.events())
    must(not attachment.mapped(), "an AF FLR revokes each mapping", attachment.events())
    nvme.start()
    must_be_blocked(ring(nvme, old, watch), "a mapping made before an AF FLR is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after an AF FLR a new mapping of the same fd is live")


EACH_SIDE = 5
"""DMA that is made before the revoke begins, and after it has ended."""


@dataclass(frozen=True)
class DmaAround:
    """DMA without a pause before, during and after what revokes. ``exporter_id``: the device that is exported."""

    session: Session
    importer: Importer
    watch: Watch
    exporter_id: str

    def check(self, nvme: Nvme, act: Callable[[], object], name: str) -> None:
        """Call ``act``, which revokes. ``name``: of ``act``."""
        buffer = nvme.export_doorbells()
        window = self.importer.attach(buffer)
        engine = self.session.vfio_user(self.importer.device_id)
        iova = window.iova()
        assert iova is not None
        address = iova + buffer.offset_of(NO_QUEUE)
        mark = self.watch.mark()

        def made() -> list[DeviceDma]:
            return self.watch.device_dma(self.importer.device_id, mark)

        with engine.series(address, modulo=1 << 31):
            wait_until(lambda: len(made()) >= EACH_SIDE, "the series begins")
            act()
            returned = time.monotonic()
            wait_until(lambda: sum(dma.began > returned for dma in made()) >= EACH_SIDE, "the series goes on")
        dma, faults = made(), self.watch.faults(mark)
        passed = [each for each in dma if not each.refused]
        events = self.watch.device_events(self.exporter_id, mark)
        arrived = {
            int.from_bytes(bytes.fromhex(each.fields["data"]), "little"): each.t
            for each in events
            if (each.event, each.fields.get("region"), each.fields.get("offset")) == ("write", REGISTERS, NO_QUEUE)
        }
        seen = f"{len(passed)} of {len(dma)} DMA passed, {len(arrived)} arrived, {len(faults)} faults"
        must(len(passed) >= EACH_SIDE, "before the revoke DMA passes", seen)
        must(dma[: len(passed)] == passed, "once a DMA was refused, none passes", seen)
        must({each.value for each in passed} == arrived.keys(), "exactly the DMA that was not refused arrives", seen)
        must(not any(each.began > returned for each in passed), f"after {name} no DMA passes", seen)
        refused = [each for each in dma if each.refused]
        reported = [each for each in faults if (each.device, each.address) == (self.importer.bdf, address)]
        must(len(reported) == len(refused), "the IOMMU reports each DMA that was refused", seen)
        offset = time.time() - time.monotonic()
        for each, fault in zip(refused, reported, strict=True):  # QEMU's clock and the devices' are one
            assert fault.time is not None
            assert each.began - CLOCK_S <= fault.time - offset <= each.ended + CLOCK_S, (
                f"{each}, {fault} at {fault.time}"
            )
        began = next((each.t for each in events if each.event == "reset"), returned)
        must(all(each < began for each in arrived.values()), f"{name} revokes before the device is reset", seen)


STEPS = ("reset", "flr", "hot-reset", "command-mem", "d3hot", "low-power", "close")


@rows("lifecycle.own-dma", "lifecycle.reset", "lifecycle.flr", "lifecycle.hot-reset", "lifecycle.close")
@pytest.mark.parametrize("trigger", STEPS)
@importers("iommufd+nvme")
def test_dma_at_each_step(session: Session, nvme: Nvme, importer: Importer, watch: Watch, trigger: str) -> None:
    """DMA that never pauses arrives until the revoke, and is refused from then on: importer, IOMMU and device agree."""
    around = DmaAround(session, importer, watch, UNDER_TEST)
    around.check(nvme, lambda: TRIGGERS[trigger].act(nvme.device), trigger)


@rows("lifecycle.own-dma", "lifecycle.af-flr")
@importers("iommufd+nvme")
def test_dma_until_an_af_flr(session: Session, importer: Importer, watch: Watch) -> None:
    """DMA that never pauses arrives until an AF FLR revokes, and is refused from then on."""
    nvme = session.open_nvme(WITH_AF)
    DmaAround(session, importer, watch, WITH_AF).check(nvme, nvme.device.af_flr, "an AF FLR")


@rows("lifecycle.slow-reset", "lifecycle.reset")
@importers("iommufd+nvme", "rxe")
def test_a_slow_reset(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """While a reset takes seconds, DMA and maps are refused at once. Its end un-revokes."""
    old, queued = importer.attach(buffer), nvme.queue_identify()
    session.vfio_user(UNDER_TEST).behave(unready_s=SLOW_S)
    mark = watch.mark()
    began = time.monotonic()
    resetting = session.start(nvme.device.reset)
    wait_until(lambda: any(e.event == "reset" for e in watch.device_events(UNDER_TEST, mark)), "the reset begins")
    with must_fail("ENODEV", "during a slow reset a map is refused"):
        importer.attach(buffer)
    must_be_blocked(ring_once(queued, old, watch), "during a slow reset no mapping reaches the device")
    must(not resetting.done(), "a map is refused at once, before the reset ends", f"{time.monotonic() - began:.1f} s")
    resetting.result()
    took = time.monotonic() - began
    must(took >= SLOW_S, "a reset ends once the device is ready", f"{took:.1f} s")
    nvme.start()
    must_be_blocked(ring(nvme, old, watch), "a mapping made before a slow reset is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after a slow reset a new mapping is live")


@rows("lifecycle.slow-reset", "lifecycle.reset")
@pytest.mark.parametrize("hangs", [False, True], ids=["held", "hangs"])
@importers("iommufd+edu")
def test_a_reset_that_stops_the_machine(session: Session, importer: Importer, watch: Watch, hangs: bool) -> None:
    """The access that resets is answered after seconds, or never. The reset ends, and un-revokes."""
    nvme = session.open_nvme(WITH_AF)
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    session.vfio_user(WITH_AF).behave(reset_hold_s=0.0 if hangs else SLOW_S, reset_unanswered=hangs)
    began = time.monotonic()
    nvme.device.reset()
    took = time.monotonic() - began
    must(took >= SLOW_S, "the reset lasts as long as its access", f"{took:.1f} s")
    session.vfio_user(WITH_AF).behave()
    nvme.start()
    must_be_blocked(ring(nvme, old, watch), "a mapping made before such a reset is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after such a reset a new mapping is live")


@rows("lifecycle.reset")
@importers("iommufd+nvme")
def test_a_device_that_is_never_ready(
    session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A reset after which the device is not ready fails, and un-revokes all the same."""
    buffer = nvme.export_doorbells()
    attachment, old, queued = attach(buffer), importer.attach(buffer), nvme.queue_identify()
    exporter = session.vfio_user(UNDER_TEST)
    exporter.behave(unready_s=FAILS_S)
    with (
        pci.reset_methods(session, UNDER_TEST, "flr"),
        must_fail("ENOTTY", "a reset after which the device is never ready fails"),
    ):
        nvme.device.reset()
    must(attachment.notifications() == 2, "a reset that fails revokes and un-revokes", attachment.events())
    must_be_blocked(ring_once(queued, old, watch), "a mapping made before a reset that failed is dead for good")
    importer.attach(buffer).detach()
    exporter.behave()
    nvme.device.set_memory(True)  # the reset that failed took COMMAND away: the kernel wrote it to a deaf device
    nvme.device.set_master(True)
    nvme.start()
    must_arrive(ring(nvme, importer.attach(buffer), watch), "once the device is ready a new mapping is live")


@rows("lifecycle.own-dma")
@importers("iommufd+edu")
def test_dma_during_the_own_reset(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """DMA that a device starts during its own reset is refused, and memory stays as it is."""
    before = nvme.data(8)
    page = int.from_bytes(nvme.device.read(REGISTERS, 0x28, 8), "little") - PAGE  # ASQ: the data page comes before it
    exporter = session.vfio_user(UNDER_TEST)
    must(not exporter.dma_write(page, bytes(range(8))), "an open device reaches the memory that is mapped for it")
    must(nvme.data(8) == bytes(range(8)), "a device's DMA arrives", nvme.data(8).hex())
    exporter.dma_write(page, before)
    mark = watch.mark()
    exporter.behave(reset_dma=[LateDma(page, b"\xff" * 8, after_s) for after_s in (0.0, 0.02, 0.05)])
    nvme.device.reset()
    dma = [each for each in watch.device_dma(UNDER_TEST, mark) if each.address == page]
    must(len(dma) == 3 and all(each.refused for each in dma), "DMA during the own reset is refused", dma)
    must(nvme.data(8) == before, "DMA during the own reset changes no memory", nvme.data(8).hex())


@rows("lifecycle.lost-device", "lifecycle.command-mem")
@importers("iommufd+edu", "iommufd+nvme", "rxe")
def test_a_device_that_is_gone(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A device that no longer answers revokes and un-revokes like any other, and lives again after a reset."""
    old, queued = importer.attach(buffer), nvme.queue_identify()
    exporter = session.vfio_user(UNDER_TEST)
    exporter.behave(gone=True)
    must(nvme.device.read(REGISTERS, 0, 4) == b"\xff" * 4, "a device that is gone reads as ones")
    nvme.device.set_memory(False)
    must_be_blocked(ring_once(queued, old, watch), "COMMAND.MEM 0 revokes a device that is gone")
    with must_fail("ENODEV", "a revoked buffer of a device that is gone cannot be mapped"):
        importer.attach(buffer)
    nvme.device.set_memory(True)
    importer.attach(buffer).detach()
    exporter.behave()
    nvme.device.reset()
    nvme.start()
    must_be_blocked(ring(nvme, old, watch), "a mapping made before the device was gone is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "once the device is back a new mapping is live")


@rows("lifecycle.lost-device", "lifecycle.unplug", "lifecycle.close")
@pytest.mark.needs("unplug", "hotplug")
@pytest.mark.parametrize("gone", ["silent", "disconnected"])
@importers("iommufd+edu", "rxe")
def test_a_device_that_is_gone_is_unplugged(
    session: Session, nvme: Nvme, importer: Importer, watch: Watch, gone: str
) -> None:
    """The unplug of a device that no longer answers waits for the close, which revokes. Replugged, it lives again."""
    buffer = nvme.export_doorbells()
    old, queued = importer.attach(buffer), nvme.queue_identify()
    nvme.device.enable_request_irq()
    if gone == "silent":
        session.vfio_user(UNDER_TEST).behave(gone=True)
    else:
        session.hotplug.disconnect(UNDER_TEST)
    must(nvme.device.read(REGISTERS, 0, 4) == b"\xff" * 4, "a device that is gone reads as ones")
    unplug = session.hotplug.start_unplug(UNDER_TEST)
    must(nvme.device.release_requested(), "an unplug requests a device that is gone from its user")
    must(not unplug.done(), "an unplug of a device that is gone waits for the close")
    nvme.device.close()
    unplug.result()
    must_be_blocked(ring_once(queued, old, watch), "the close of a device that is gone revokes its buffers")
    with must_fail("ENODEV", "a buffer of a device that was unplugged cannot be mapped"):
        importer.attach(buffer)
    session.vfio_user(UNDER_TEST).behave()
    session.hotplug.plug(UNDER_TEST)
    replugged = session.open_nvme()
    must_be_blocked(ring(replugged, old, watch), "a mapping made before the unplug is dead for good")
    result = ring(replugged, importer.attach(replugged.export_doorbells()), watch)
    must_arrive(result, "an export of a replugged device is live")


@rows("lifecycle.lost-device", "lifecycle.reset")
@importers("iommufd+nvme")
def test_a_bar_that_stops_answering(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A BAR that stops answering loses DMA without a fault; a reset revokes it like any other."""
    old, queued = importer.attach(buffer), nvme.queue_identify()
    exporter = session.vfio_user(UNDER_TEST)
    with exporter.behaving(silent_bars=[REGISTERS]):
        result = ring_once(queued, old, watch)
        must(result.nothing, "the DMA of a live mapping reaches a BAR that does not answer", result)
        nvme.device.reset()
        must_be_blocked(ring_once(queued, old, watch), "a reset revokes a BAR that does not answer")
        importer.attach(buffer).detach()
    nvme.device.reset()
    nvme.start()
    must_arrive(ring(nvme, importer.attach(buffer), watch), "once the BAR answers a new mapping is live")


@rows("lifecycle.interrupts", "lifecycle.af-flr", "lifecycle.command-mem")
@importers("iommufd+edu", "rxe")
def test_interrupts_go_on(session: Session, importer: Importer, watch: Watch) -> None:
    """A command rung through an importer interrupts its user, also after revokes and resets of the device."""
    nvme = session.open_nvme(WITH_AF)
    buffer, device = nvme.export_doorbells(), nvme.device
    device.enable_msix()
    must(not device.interrupted(0.1), "a device without a command does not interrupt")

    def must_interrupt(when: str) -> None:
        mark = watch.mark()
        must_arrive(ring(nvme, importer.attach(buffer), watch), f"{when} a mapping is live")
        must(device.interrupted(), f"{when} the interrupt of a command reaches the user")
        wait_until(lambda: any(e.event == "interrupt" for e in watch.device_events(WITH_AF, mark)), "the interrupt")

    must_interrupt("at first")
    device.set_memory(False)
    device.set_memory(True)
    must_interrupt("after COMMAND.MEM 0 and 1")
    for reset in (device.af_flr, device.reset):
        reset()
        nvme.start()
        must_interrupt(f"after {reset.__name__}")


LINES = (5, 2, 9, 0, 12, 7, 3)
"""The pages of the memory BAR that hold the lines of a picture, from the top."""


@rows("importers.content", "importers.several")
@importers("dma-api+edu", "rxe")
def test_a_scattered_framebuffer(session: Session, nvme: Nvme, cmb: Cmb, importer: Importer, watch: Watch) -> None:
    """A picture whose lines are scattered over a BAR is one buffer. The device has each line in its place."""
    exporter = session.vfio_user(UNDER_TEST)
    blank = exporter.memory(cmb.region, cmb.offset, (max(LINES) + 1) * PAGE)
    buffer = nvme.device.export(cmb.region, [(cmb.offset + line * PAGE, PAGE) for line in LINES])
    window = importer.attach(buffer)
    picture = b"".join(bytes([0x40 + at]) * PAGE for at in range(len(LINES)))
    for at in range(0, len(picture), PAGE):
        window.write(at, picture[at : at + PAGE])
    for at, line in enumerate(LINES):
        has = exporter.memory(cmb.region, cmb.offset + line * PAGE, PAGE)
        must(has == bytes([0x40 + at]) * PAGE, f"line {at} is in page {line} of the device", has[:8].hex())
    others = [page for page in range(max(LINES)) if page not in LINES]
    for page in others:
        has = exporter.memory(cmb.region, cmb.offset + page * PAGE, PAGE)
        must(has == blank[page * PAGE : (page + 1) * PAGE], f"page {page} of the device is as it was", has[:8].hex())

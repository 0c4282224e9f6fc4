# SPDX-License-Identifier: GPL-2.0-only
"""The IOTLB: a revoke flushes it under each of the kernel's flush policies, and with VT-d's caching mode a map does."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.cases.constants import CMBS_WITHOUT_ONE_AREA, UNDER_TEST
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must
from harness.cases.probe import must_arrive, must_be_blocked, ring_once
from harness.session import Action, Cmb, DmaBuf, Importer, Nvme, Session, Window
from harness.witness import Watch

pytestmark = pytest.mark.machine("intel-iommu", "lazy", "caching-mode", "scalable-mode", "arm64-smmuv3")
rows = rows_in("iotlb")

BAR_GOES = ("command-mem", "reset", "flr", "hot-reset", "close")
"""Triggers that take the exporter's BARs from the address space, which QEMU's trace shows."""
LIVE, STALE = b"live", int.from_bytes(b"dead", "little")
"""What a DMA writes before and after a revoke."""
TRIES = 3
"""Rings right after a revoke. On a busy host one of them may come after a queued flush, which runs after 10 ms."""


@rows("importers.iotlb")
@importers("iommufd+nvme", "dma-api+edu")
def test_flush_before_the_reset(session: Session, importer: Importer, watch: Watch) -> None:
    """The IOTLB has forgotten a buffer before the exporter is reset or its memory is disabled."""
    nvme = session.open_nvme()
    buffer = nvme.export_doorbells()
    for name in BAR_GOES:
        mark = watch.iotlb_mark()
        window = importer.attach(buffer)
        must_arrive(ring_once(nvme.queue_identify(), window, watch), f"before {name} the mapping is live")
        iova = window.iova()
        assert iova is not None
        TRIGGERS[name].act(nvme.device)
        stale = watch.stale_translations(mark, importer.bdf, range(iova, iova + window.length), session.bdf(UNDER_TEST))
        must(not stale, f"the IOTLB is flushed before {name} takes the exporter's BAR away", ", ".join(map(str, stale)))
        if undo := TRIGGERS[name].undo:
            undo(nvme.device)
        if name != "close":
            nvme.start()


@rows("importers.iotlb", "lifecycle.command-mem")
@importers("dma-api+nvme")
def test_a_stale_address_faults_at_once(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """As soon as a revoke has returned, a DMA to the address of a mapping before it faults."""
    for _ in range(TRIES):
        window = importer.attach(buffer)
        must_arrive(
            ring_once(nvme.queue_identify(), window, watch), "before COMMAND.MEM is cleared the mapping is live"
        )
        queued = nvme.queue_identify()
        result = ring_once(queued, window, watch, after=Action(nvme.device, "revoke"))
        if not result.blocked:
            result = replace(result, completed=nvme.completed(queued) is not None)
        must_be_blocked(result, "a DMA that starts after COMMAND.MEM was cleared and set faults")
        nvme.start()


@pytest.fixture
def scattered(session: Session, nvme: Nvme, importer: Importer) -> Callable[[str], Window]:
    """Map a buffer whose ranges have an IOVA area each, and show that the mapping is live before this trigger."""
    cmb = nvme.cmb()
    buffer = nvme.device.export(cmb.region, [(cmb.offset, cmb.size)] * CMBS_WITHOUT_ONE_AREA)

    def live(trigger: str) -> Window:
        window = importer.attach(buffer)
        window.write(0, LIVE)
        found = nvme.device.read(cmb.region, cmb.offset, len(LIVE))
        must(found == LIVE, f"before {trigger} the area of a range is live", found)
        return window

    return live


@pytest.mark.needs("many_ranges")
@rows("importers.iotlb", "importers.areas", "lifecycle.reset")
@importers("dma-api+nvme")
def test_flush_of_areas_before_the_reset(
    session: Session, nvme: Nvme, importer: Importer, scattered: Callable[[str], Window], watch: Watch
) -> None:
    """The IOTLB has forgotten each range that has an IOVA area of its own before the exporter is reset."""
    mark = watch.iotlb_mark()
    iova = scattered("a reset").iova()
    assert iova is not None
    nvme.device.reset()
    stale = watch.stale_translations(mark, importer.bdf, range(iova, iova + len(LIVE)), session.bdf(UNDER_TEST))
    seen = ", ".join(map(str, stale))
    must(not stale, "the IOTLB is flushed of the area of a range before reset takes the exporter's BAR away", seen)


@pytest.mark.needs("many_ranges")
@rows("importers.iotlb", "importers.areas", "lifecycle.command-mem")
@importers("dma-api+nvme")
def test_a_stale_area_faults_at_once(
    session: Session, nvme: Nvme, cmb: Cmb, scattered: Callable[[str], Window], watch: Watch
) -> None:
    """As soon as a revoke has returned, a DMA to a range that had an IOVA area of its own faults, and moves no data."""
    device = nvme.device
    # There is room for one mapping, and a lazy flush keeps the IOVAs of the old one.
    for _ in range(1 if session.lazy() else TRIES):
        window, mark = scattered("COMMAND.MEM is cleared"), watch.mark()
        window.store32_after(0, STALE, Action(device, "revoke"))
        found, faults = device.read(cmb.region, cmb.offset, len(LIVE)), watch.faults(mark)
        seen = f"{found!r} in the CMB, and {len(faults)} DMA faults"
        must(
            found == LIVE and faults, "a DMA to the area of a range faults after COMMAND.MEM was cleared and set", seen
        )


@pytest.mark.machine("caching-mode")
@rows("importers.iotlb-map")
@importers("iommufd+nvme", "dma-api+edu")
def test_flush_after_a_map(cmb_buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """With caching mode a map flushes each of its pages from the IOTLB."""
    for attempt in ("first", "second"):
        mark = watch.iotlb_mark()
        window = importer.attach(cmb_buffer)
        must(window.read(0, 1) == b"\0", f"the {attempt} mapping is live")
        iova = window.iova()
        assert iova is not None
        missed = watch.unflushed_pages(mark, importer.bdf, range(iova, iova + window.length))
        must(not missed, f"the {attempt} map flushes its pages from the IOTLB", ", ".join(map(hex, missed)))
        window.detach()

# SPDX-License-Identifier: GPL-2.0-only
"""The IOTLB: after a revoke it translates no address to the device, under each of the kernel's flush policies."""

from dataclasses import replace

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import TRIGGERS, importers, rows_in
from harness.cases.must import must
from harness.cases.probe import must_arrive, must_be_blocked, ring_once
from harness.session import Action, DmaBuf, Importer, Nvme, Session
from harness.witness import Watch

pytestmark = pytest.mark.machine("intel-iommu", "lazy", "caching-mode", "scalable-mode")
rows = rows_in("iotlb")

BAR_GOES = ("command-mem", "reset", "flr", "hot-reset", "close")
"""Triggers that take the exporter's BARs from the address space, which QEMU's trace shows."""
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


@rows("importers.iotlb", "lifecycle.low-power")
@importers("dma-api+nvme")
def test_a_stale_address_faults_at_once(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """As soon as a revoke has returned, a DMA to the address of a mapping before it faults."""
    for _ in range(TRIES):
        window = importer.attach(buffer)
        must_arrive(ring_once(nvme.queue_identify(), window, watch), "before LOW_POWER_ENTRY the mapping is live")
        queued = nvme.queue_identify()
        result = ring_once(queued, window, watch, after=Action(nvme.device, "low_power_entry"))
        nvme.device.low_power_exit()
        if not result.blocked:
            result = replace(result, completed=nvme.completed(queued) is not None)
        must_be_blocked(result, "a DMA that starts after LOW_POWER_ENTRY has returned faults")
        nvme.start()

# SPDX-License-Identifier: GPL-2.0-only
"""kmemleak finds no leak, however an export, an import and a revoke end."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import importers
from harness.cases.must import must, must_fail
from harness.cases.types import Attach
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.session.feature_request import FeatureClient, FeatureRequest
from harness.session.leaks import leaks, summarize

pytestmark = [pytest.mark.contract("memory", "around.memory"), pytest.mark.needs("kmemleak")]

TIMES = 64
"""Repetitions: stale pointers hide some leaked objects, but not all."""
REQUESTS = [
    FeatureRequest(ranges=((0, PAGE), (0, PAGE))),  # granted
    FeatureRequest(ranges=((0, PAGE), (0, 0))),  # refused for a range
    FeatureRequest(ranges=((0, PAGE), (0, 1 << 40))),  # refused for its bounds
    FeatureRequest(region=5),  # refused for the region
]


@importers("iommufd+nvme")
def test_exports_lose_nothing(session: Session, importer: Importer, attach: Attach) -> None:
    """An export leaks no memory, whether it is granted, refused, imported, revoked or outlives its device."""
    with leaks(session) as leaked:
        nvme = session.open_nvme()
        FeatureClient(session, nvme.device).request(*REQUESTS, times=TIMES)
        for _ in range(TIMES):
            buffer = nvme.export_doorbells()
            attachment, window = attach(buffer), importer.attach(buffer)
            nvme.device.set_memory(False)
            with must_fail("ENODEV", "a revoked buffer cannot be mapped"):
                attachment.map()
            nvme.device.set_memory(True)
            for each in (window, attachment, buffer):
                each.close()
        outliving = nvme.export_doorbells()
        nvme.device.close()
        outliving.close()
        session.reset()
    must(not leaked, "what an export allocates is given back", summarize(leaked))


def test_maps_lose_nothing(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """An unmap frees what the map allocated, whether the importer or a revoke causes it."""
    with leaks(session) as leaked:
        attachment = attach(buffer)
        attachment.cycle(TIMES)
        attachment.map()
        nvme.device.set_memory(False)
        session.reset()
    must(not leaked, "an unmap gives back what the map has allocated", summarize(leaked))

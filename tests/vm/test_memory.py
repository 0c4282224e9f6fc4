# SPDX-License-Identifier: GPL-2.0-only
"""Nothing is lost: what kmemleak finds after every way in which an export, an import and a revoke can go."""

from collections.abc import Callable, Mapping

import pytest

from harness.cases.must import must, must_fail
from harness.session import Attachment, Importer, Nvme, Session
from harness.session.feature_request import FeatureClient, FeatureRequest
from harness.session.leaks import leaks, summarize

Attach = Callable[..., Attachment]

PAGE = 4096
TIMES = 64
"""How often each is done: stale pointers hide some of what is lost, but not all of it."""
REQUESTS = {
    "an export": FeatureRequest(ranges=((0, PAGE), (0, PAGE))),
    "a range refused": FeatureRequest(ranges=((0, PAGE), (0, 0))),
    "bounds refused": FeatureRequest(ranges=((0, PAGE), (0, 1 << 40))),
    "a region refused": FeatureRequest(region=5),
}

pytestmark = pytest.mark.contract("memory", "around.memory")


@pytest.fixture(autouse=True)
def seen(features: Mapping[str, bool]) -> None:
    """A kernel that tells what it has lost."""
    if not features["kmemleak"]:
        pytest.skip("this kernel does not look for leaks (CONFIG_DEBUG_KMEMLEAK); FLAVOUR=debug does")


@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_exports_lose_nothing(session: Session, importer: Importer, attach: Attach) -> None:
    """Exports that are granted, refused, imported, revoked and outlived by their fd leave no memory behind."""
    with leaks(session) as lost:
        nvme = session.open_nvme()
        FeatureClient(session, nvme.device).request(*REQUESTS.values(), times=TIMES)
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
    must(not lost, "what an export allocates is given back", summarize(lost))


def test_maps_lose_nothing(session: Session, nvme: Nvme, attach: Attach) -> None:
    """What a map allocates, its unmap gives back, whoever unmaps."""
    with leaks(session) as lost:
        attachment = attach(nvme.export_doorbells())
        attachment.cycle(TIMES)
        attachment.map()
        nvme.device.set_memory(False)
        session.reset()
    must(not lost, "an unmap gives back what the map has allocated", summarize(lost))

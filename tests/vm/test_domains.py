# SPDX-License-Identifier: GPL-2.0-only
"""Several IOMMU domains over one address space: what is mapped in one is in each, and a revoke cuts it out of each."""

import pytest

from harness.cases.must import must
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import Importer, Nvme, Session
from harness.witness import Watch


@pytest.mark.contract("domains", "importers.iommufd-domain")
@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_every_domain(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A live area is in every domain, made before it or after; a reset cuts it out of each, and a new one has none."""
    early = session.new_domain(importer)
    window = importer.attach(nvme.export_doorbells())
    domains = {"made before the area": early, "made after the area": session.new_domain(importer)}
    for made, domain in domains.items():
        domain.enter()
        must_arrive(ring(nvme, window, watch), f"a live area is in a domain {made}")
    nvme.device.reset()
    nvme.start()
    domains["made after the reset"] = session.new_domain(importer)
    for made, domain in domains.items():
        domain.enter()
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a reset leaves nothing of an area in a domain {made}")
    must(window.detach() == window.length, "the unmap of a dead area gives its length, whatever domains it was in")

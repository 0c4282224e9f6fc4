# SPDX-License-Identifier: GPL-2.0-only
"""Several IOMMU domains over one address space: each has the same mappings, and a revoke removes them from each."""

import pytest

from harness.cases.marks import importers
from harness.cases.must import must
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.witness import Watch


@pytest.mark.contract("domains", "importers.iommufd-domain")
@importers("iommufd+nvme")
def test_every_domain(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A live area is in every domain and a revoked one in none, in any order of their creation."""
    early = session.new_domain(importer)
    window = importer.attach(buffer)
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
    must(window.detach() == window.length, "the unmap of a dead area returns its length, in any number of domains")

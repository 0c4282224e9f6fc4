# SPDX-License-Identifier: GPL-2.0-only
"""A BAR is mapped as MMIO, never as memory that a CPU may cache or encrypt. Only an IOMMU that is told says so."""

from collections.abc import Sequence

import pytest

from harness.cases.must import must
from harness.cases.probe import must_arrive, ring
from harness.session import Importer, Nvme, Session
from harness.session import feature_request as attempts
from harness.witness import IommuMap, Watch

pytestmark = [
    pytest.mark.machine("virtio-iommu"),
    pytest.mark.contract("memory type", "importers.iommufd-mmio", "importers.route-bridge"),
]


@pytest.fixture
def doorbells(session: Session) -> tuple[int, int]:
    """The physical address and size of the BAR that cases export."""
    bar = attempts.bars(session, "nvme0")[0]
    return bar.start, bar.size


def all_mmio(maps: Sequence[IommuMap]) -> bool:
    """Whether there are any, and each is of MMIO."""
    return bool(maps) and all(made.mmio for made in maps)


def told(maps: Sequence[IommuMap]) -> str:
    """What the IOMMU was asked for."""
    return "; ".join(map(str, maps)) or "no map of it"


@pytest.mark.parametrize("importer", ["iommufd+edu", "iommufd+nvme", "dma-api+edu", "rxe"], indirect=True)
def test_mapped_as_mmio(nvme: Nvme, importer: Importer, watch: Watch, doorbells: tuple[int, int]) -> None:
    """An importer's IOMMU is asked to map a BAR as MMIO."""
    window = importer.attach(nvme.export_doorbells())
    must_arrive(ring(nvme, window, watch), "a live mapping reaches the device")
    maps = watch.maps(*doorbells)
    must(all_mmio(maps), "a BAR is mapped as MMIO, not as memory", told(maps))


@pytest.mark.parametrize("importer", ["iommufd+nvme"], indirect=True)
def test_second_domain_as_mmio(
    session: Session, nvme: Nvme, importer: Importer, watch: Watch, doorbells: tuple[int, int]
) -> None:
    """A domain that comes after the mapping holds the BAR as MMIO, too."""
    importer.attach(nvme.export_doorbells())
    mark = watch.mark()
    session.new_domain(importer).enter()  # virtio-iommu hears of a domain when a device comes into it
    maps = watch.maps(*doorbells, mark)
    must(all_mmio(maps), "a BAR is mapped as MMIO, not as memory, in a second domain", told(maps))

# SPDX-License-Identifier: GPL-2.0-only
"""A BAR is mapped as MMIO, never as memory that a CPU may cache or encrypt.

virtio-iommu and an SMMU's page tables reveal the type."""

from collections.abc import Sequence

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import importers
from harness.cases.must import must
from harness.cases.probe import must_arrive, ring
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS
from harness.witness import IommuMap, Watch

pytestmark = [
    pytest.mark.machine("virtio-iommu", "arm64-smmuv3"),
    pytest.mark.contract("memory type", "importers.iommufd-mmio", "importers.route-bridge"),
]


@pytest.fixture
def doorbells(session: Session) -> tuple[int, int]:
    """The physical address and size of the BAR that cases export."""
    bar = bars(session, UNDER_TEST)[REGISTERS]
    return bar.start, bar.size


def must_be_mmio(maps: Sequence[IommuMap], sentence: str) -> None:
    """State that there are maps, and that each is of MMIO."""
    wrong = "; ".join(str(each) for each in maps if not each.mmio)
    must(bool(maps) and not wrong, sentence, wrong or "no map of it")


@importers("iommufd+edu", "iommufd+nvme", "dma-api+edu", "rxe")
def test_mapped_as_mmio(
    nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch, doorbells: tuple[int, int]
) -> None:
    """An importer's IOMMU maps a BAR as MMIO."""
    must_arrive(ring(nvme, importer.attach(buffer), watch), "a live mapping reaches the device")
    must_be_mmio(watch.maps(*doorbells), "a BAR is mapped as MMIO, not as memory")


@importers("iommufd+nvme")
def test_copy_as_mmio(
    session: Session, buffer: DmaBuf, importer: Importer, watch: Watch, doorbells: tuple[int, int]
) -> None:
    """A copy of a mapping also maps the BAR as MMIO."""
    origin = importer.attach(buffer)
    mark = watch.mark()
    importer.copy(buffer, session.ioas(importer), origin.iova())
    must_be_mmio(watch.maps(*doorbells, mark), "a BAR is mapped as MMIO, not as memory, in a copy")


@importers("iommufd+nvme")
def test_second_domain_as_mmio(
    session: Session, buffer: DmaBuf, importer: Importer, watch: Watch, doorbells: tuple[int, int]
) -> None:
    """A domain made after the mapping also maps the BAR as MMIO."""
    importer.attach(buffer)
    mark = watch.mark()
    session.new_domain(importer).enter()  # the kernel attaches a domain to virtio-iommu when a device enters it
    must_be_mmio(watch.maps(*doorbells, mark), "a BAR is mapped as MMIO, not as memory, in a second domain")

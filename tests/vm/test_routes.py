# SPDX-License-Identifier: GPL-2.0-only
"""P2P routes: which way a map by the DMA API goes between two devices, and that there is none where none is allowed."""

from collections.abc import Callable

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, ring
from harness.session import Attachment, Importer, Nvme, Session
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS
from harness.witness import Watch

DMA_API = pytest.mark.parametrize(
    "name",
    [
        pytest.param("rxe", marks=pytest.mark.needs("rxe")),
        pytest.param("dma-api+edu", marks=pytest.mark.needs("test_importer")),
    ],
)


@pytest.mark.machine("unlisted-bridge", "switch-acs")
@pytest.mark.contract("routes", "importers.route-none")
@DMA_API
def test_no_route_is_refused(session: Session, nvme: Nvme, name: str, watch: Watch) -> None:
    """Where P2P would pass a host bridge that the kernel does not list, a map by the DMA API is refused."""
    importer = session.importer(name)
    buffer = nvme.export_doorbells()
    with must_fail("EINVAL", "a map without a P2P route is refused"):
        importer.attach(buffer)
    silence = ring(nvme, None, watch)
    must(silence.nothing, "a map that was refused reaches nothing", silence)


@pytest.mark.machine("unlisted-bridge")
@pytest.mark.contract("routes", "importers.route-none")
@pytest.mark.parametrize("importer", ["iommufd+edu", "iommufd+nvme"], indirect=True)
def test_iommufd_asks_for_no_route(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """iommufd maps whatever the bridge: the IOMMU's page table leads from any device to the BAR."""
    result = ring(nvme, importer.attach(nvme.export_doorbells()), watch)
    must_arrive(result, "iommufd maps without a P2P route of the DMA API's")


@pytest.mark.machine("switch")
@pytest.mark.contract("routes", "importers.route-bus")
def test_switch_is_a_route(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Below one switch without ACS a map needs no host bridge, and reaches the device."""
    result = ring(nvme, importer.attach(nvme.export_doorbells()), watch)
    must_arrive(result, "a map below one switch reaches the device by its bus address")


@pytest.mark.machine("switch")
@pytest.mark.contract("routes", "importers.route-bus", "importers.route-none")
def test_switch_is_no_route_from_beyond(session: Session, nvme: Nvme) -> None:
    """The route below a switch is for what sits there: a device elsewhere still has none."""
    attachment = session.attach(nvme.export_doorbells(), device_id="edu1")
    with must_fail("EINVAL", "a map without a P2P route is refused, whatever else is below the exporter's switch"):
        attachment.map()


PAGE = 0x1000
EXPORTS = ((1,), (3, 0, 2))
"""Pages of BAR 0."""


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("routes", "importers.route-bus")
def test_its_own_bar_needs_no_bridge(session: Session, nvme: Nvme, attach: Callable[..., Attachment]) -> None:
    """From a device to itself no bridge is passed: a map gives the PCI bus address of each range, and takes no IOVA."""
    start = bars(session, "nvme0")[REGISTERS].start
    for pages in EXPORTS:
        attachment = attach(nvme.device.export(REGISTERS, [(page * PAGE, PAGE) for page in pages]), device_id="nvme0")
        attachment.map()
        found = [entry.address - start for entry in attachment.table().entries]
        must(
            found == [page * PAGE for page in pages],
            "where no host bridge is passed, each range is mapped at its address on the bus",
            [f"{offset:+#x}" for offset in found],
        )


@pytest.mark.needs("importer_rules")
@pytest.mark.contract("routes", "importers.route-none")
def test_what_is_not_pci_has_no_route(nvme: Nvme, attach: Callable[..., Attachment]) -> None:
    """A device that is not PCI has no P2P route to a BAR, on any machine: it may attach, and cannot map."""
    attachment = attach(nvme.export_doorbells(), device_id=None)
    with must_fail("EINVAL", "a map for a device that is not PCI is refused"):
        attachment.map()

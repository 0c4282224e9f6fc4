# SPDX-License-Identifier: GPL-2.0-only
"""P2P routes: how the DMA API maps a BAR of one device for another, and where it must refuse."""

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, ring
from harness.cases.types import Attach
from harness.session import DmaBuf, Importer, Nvme, Session
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("routes")

# Not the fixture ``importer``: the machines here lack dma-api.
BY_DMA_API = pytest.mark.parametrize(
    "name",
    [
        pytest.param("rxe", marks=pytest.mark.needs("rxe")),
        pytest.param("dma-api+edu", marks=pytest.mark.needs("test_importer")),
    ],
)


@pytest.mark.machine("unlisted-bridge", "switch-acs", "arm64-smmuv3")
@rows("importers.route-none")
@BY_DMA_API
def test_no_route_is_refused(session: Session, nvme: Nvme, buffer: DmaBuf, name: str, watch: Watch) -> None:
    """The DMA API refuses a map whose P2P would cross a host bridge that the kernel does not list."""
    importer = session.importer(name)
    with must_fail("EINVAL", "a map without a P2P route is refused"):
        importer.attach(buffer)
    silence = ring(nvme, None, watch)
    must(silence.nothing, "a map that was refused reaches nothing", silence)


UNLISTED = "Host bridge not in P2PDMA whitelist: 8086:29c0"
NO_ROUTE = (
    "cannot be used for peer-to-peer DMA as the client and provider ({exporter}) do not share an upstream bridge or "
    "whitelisted host bridge"
)
REDIRECTED = "ACS redirect is set between the client and provider ({exporter})"
REDIRECTING = "to disable ACS redirect for this path, add the kernel parameter: pci=disable_acs_redir={bridge}"
WARNINGS = {
    "unlisted-bridge": [NO_ROUTE],
    "arm64-smmuv3": [NO_ROUTE],
    "switch-acs": [REDIRECTED, REDIRECTING, UNLISTED, NO_ROUTE],
}
"""By machine, what calc_map_type_and_dist() logs of a refusal. q35's host bridge is 8086:29c0."""


@pytest.mark.machine(*WARNINGS)
@pytest.mark.needs("test_importer")
@rows("importers.route-none")
def test_a_refusal_names_its_reason(session: Session) -> None:
    """The kernel's log has the reason of the first refusal, and the parameter that removes an ACS redirect."""
    session.unbind(UNDER_TEST)  # the kernel keeps a route as long as the exporter has a driver
    attachment = session.attach(session.open_nvme().export_doorbells(), device_id="edu0")
    log = session.kernel_log()
    with must_fail("EINVAL", "a map without a P2P route is refused"):
        attachment.map()
    names = {"exporter": session.bdf(UNDER_TEST), "bridge": session.bdf("rp-nvme0")}
    expected = [text.format(**names) for text in WARNINGS[session.machine.config.name]]
    found = [message.partition(": ")[2] for message in log.read()]
    must(found == expected, "the kernel's log has the reason of a refusal", found)


@pytest.mark.machine("unlisted-bridge", "arm64-smmuv3")
@rows("importers.route-none")
@importers("iommufd+edu", "iommufd+nvme")
def test_iommufd_asks_for_no_route(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """iommufd needs no P2P route: the IOMMU's page table leads from any device to the BAR."""
    must_arrive(ring(nvme, importer.attach(buffer), watch), "iommufd maps without a P2P route of the DMA API")


@pytest.mark.machine("switch", "arm64-switch")
@rows("importers.route-bus")
def test_switch_is_a_route(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """Below one switch without ACS a map needs no host bridge, and reaches the device."""
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "a map below one switch reaches the device by its bus address")


@pytest.mark.machine("switch", "arm64-switch")
@rows("importers.route-bus", "importers.route-none")
def test_switch_is_no_route_from_beyond(session: Session, buffer: DmaBuf) -> None:
    """A switch is a route only between devices below it."""
    attachment = session.attach(buffer, device_id="edu1")
    with must_fail("EINVAL", "a map without a P2P route is refused, even if other devices have one"):
        attachment.map()


EXPORTS = ((1,), (3, 0, 2))
"""Pages of BAR 0."""


@pytest.mark.needs("many_ranges")
@rows("importers.route-bus")
def test_its_own_bar_needs_no_bridge(session: Session, nvme: Nvme, attach: Attach) -> None:
    """A device maps its own BAR at the PCI bus address of each range, and takes no IOVA."""
    start = bars(session, UNDER_TEST)[REGISTERS].start
    for pages in EXPORTS:
        attachment = attach(
            nvme.device.export(REGISTERS, [(page * PAGE, PAGE) for page in pages]), device_id=UNDER_TEST
        )
        attachment.map()
        found = [entry.address - start for entry in attachment.table().entries]
        must(
            found == [page * PAGE for page in pages],
            "without a host bridge on the way, each range is mapped at its address on the bus",
            [f"{offset:+#x}" for offset in found],
        )


@pytest.mark.needs("importer_rules")
@rows("importers.route-none")
def test_what_is_not_pci_has_no_route(buffer: DmaBuf, attach: Attach) -> None:
    """A device that is not PCI may attach, but has no P2P route to a BAR and cannot map."""
    attachment = attach(buffer, device_id=None)
    with must_fail("EINVAL", "a map for a device that is not PCI is refused"):
        attachment.map()

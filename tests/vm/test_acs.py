# SPDX-License-Identifier: GPL-2.0-only
"""ACS between exporter and importer: on a processor that allows P2P, a redirect leads through the host bridge.

QEMU's root ports have ACS P2P Request Redirect and Completion Redirect, but no Egress Control; its switch ports and
endpoints have no ACS. So Egress Control cannot be set here, and a redirect at the importer's own bridge only because
QEMU takes a root port below a switch.
"""

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import rows_in
from harness.cases.must import must, must_fail
from harness.session import Session, pci
from harness.session.feature_request import bars
from harness.session.nvme import REGISTERS

rows = rows_in("routes")
pytestmark = pytest.mark.needs("importer_rules", "test_importer")

PCI_ACS_RR, PCI_ACS_CR = 0x04, 0x08
"""include/uapi/linux/pci_regs.h"""
PORT, SIBLING = "rp-nvme0", "edu0f2"
"""The bridge above the controller under test, and another function of its slot."""


@pytest.mark.machine("multifunction")
@rows("importers.route-acs")
def test_a_redirect_leads_through_the_host_bridge(session: Session) -> None:
    """Each ACS redirect of the shared bridge alone makes the map go by an IOVA; without one it has bus addresses."""
    for redirects in (PCI_ACS_RR | PCI_ACS_CR, PCI_ACS_RR, PCI_ACS_CR, 0):
        session.unbind(UNDER_TEST)  # the kernel keeps a route as long as the exporter has a driver
        with pci.acs(session, PORT, redirects):
            nvme = session.open_nvme()
            bus = bars(session, UNDER_TEST)[REGISTERS].start
            attachment = session.attach(nvme.device.export(REGISTERS, [(0, PAGE)]), device_id=SIBLING)
            attachment.map()
            address = attachment.table().entries[0].address
            what = f"with the ACS redirects {redirects:#x} a map has {'an IOVA' if redirects else 'a bus address'}"
            must((address == bus) == (not redirects), what, f"{address:#x}, with the BAR at {bus:#x}")
            session.reset()


INNER_PORT, BEHIND_IT = "rp-acs", "edu2"
"""A port below the switch, and the importer below that port only."""


@pytest.mark.machine("switch", "arm64-switch")
@rows("importers.route-acs", "importers.route-none")
def test_a_redirect_at_the_importer(session: Session) -> None:
    """Each ACS redirect at the importer's own bridge takes away the route through the switch."""
    for redirects in (PCI_ACS_RR | PCI_ACS_CR, PCI_ACS_RR, PCI_ACS_CR, 0):
        session.unbind(UNDER_TEST)  # the kernel keeps a route as long as the exporter has a driver
        with pci.acs(session, INNER_PORT, redirects):
            nvme = session.open_nvme()
            bus = bars(session, UNDER_TEST)[REGISTERS].start
            attachment = session.attach(nvme.device.export(REGISTERS, [(0, PAGE)]), device_id=BEHIND_IT)
            if redirects:
                with must_fail("EINVAL", f"with the ACS redirects {redirects:#x} at the importer a map is refused"):
                    attachment.map()
            else:
                attachment.map()
                address = attachment.table().entries[0].address
                must(address == bus, "without a redirect on the way a map has a bus address", f"{address:#x}")
            session.reset()

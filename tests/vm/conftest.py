# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures that several files of cases share. The others are the harness's own (harness/run)."""

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session
from harness.witness import Watch

CMB_PAGES = 4


@pytest.fixture
def buffer(nvme: Nvme) -> DmaBuf:
    """Export the doorbells of the controller under test."""
    return nvme.export_doorbells()


@pytest.fixture
def cmb(nvme: Nvme) -> Cmb:
    """Enable the controller memory buffer of the controller under test."""
    return nvme.cmb()


@pytest.fixture
def cmb_buffer(nvme: Nvme, cmb: Cmb) -> DmaBuf:
    """Export the first four pages of the CMB. Each byte is its page's number."""
    for page in range(CMB_PAGES):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page]) * PAGE)
    return nvme.device.export(cmb.region, [(cmb.offset, CMB_PAGES * PAGE)])


@pytest.fixture
def areas(session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch) -> Areas:
    """The areas of the importer's address space that map the CMB."""
    return Areas(session, importer, nvme.device, cmb_buffer, watch)


@pytest.fixture
def pci_testdev(session: Session) -> str | None:
    """The id of the machine's pci-testdev, which has an I/O BAR and opens fast; None if it has none."""
    found = [device.id for device, _ in session.machine.config.walk() if device.type == "pci-testdev"]
    return found[0] if found else None

# SPDX-License-Identifier: GPL-2.0-only
"""Peer-to-peer data: what an importer moves to and from the controller memory buffer is what the CPU finds there."""

import pytest

from harness.cases.must import must
from harness.session import Cmb, Importer, Nvme, Window

pytestmark = pytest.mark.contract("cmb", "importers.live")

GUARD = 64
"""Bytes on each side of a transfer that must stay as they were."""

TRANSFERS = [(0, 4), (8, 8), (0x1000 - 4, 8), (0x2003, 61), (0x3000, 4080), (0x5FF0, 9000)]
"""(offset, length): aligned dwords, a page crossed, odd ends, about a page, several pages."""


def pattern(length: int, seed: int) -> bytes:
    """Bytes of which no two neighbouring pages are alike."""
    return bytes((seed + at * 7 + (at >> 8) * 13) & 0xFF for at in range(length))


@pytest.fixture
def cmb(nvme: Nvme) -> Cmb:
    """The controller memory buffer of the device under test."""
    return nvme.cmb()


@pytest.fixture
def window(nvme: Nvme, importer: Importer, cmb: Cmb) -> Window:
    """The importer's view of the whole CMB."""
    return importer.attach(nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]))


def test_cmb_write(nvme: Nvme, window: Window, cmb: Cmb) -> None:
    """What an importer writes into the CMB is there, and its neighbours are untouched."""
    for offset, length in TRANSFERS:
        at, around = max(offset - GUARD, 0), length + 2 * GUARD
        nvme.device.write(cmb.region, cmb.offset + at, before := pattern(around, 3))
        window.write(offset, data := pattern(length, 101))
        lead = offset - at
        due = before[:lead] + data + before[lead + length :]
        found = nvme.device.read(cmb.region, cmb.offset + at, around)
        must(found == due, "an importer's write lands exactly where it aims", f"{length} bytes at {offset:#x}")


def test_cmb_read(nvme: Nvme, window: Window, cmb: Cmb) -> None:
    """What the CPU writes into the CMB, an importer reads."""
    for offset, length in TRANSFERS:
        nvme.device.write(cmb.region, cmb.offset + offset, data := pattern(length, 57))
        must(window.read(offset, length) == data, "an importer reads what is in the BAR", f"{length} at {offset:#x}")

# SPDX-License-Identifier: GPL-2.0-only
"""Peer-to-peer data: an importer and the CPU see the same bytes in the controller memory buffer."""

import pytest

from harness.cases.must import must
from harness.session import Cmb, Importer, Nvme, Window

pytestmark = pytest.mark.contract("cmb", "importers.live")

GUARD = 64
"""Bytes on each side of a transfer that must stay as they were."""

TRANSFERS = [(0, 4), (8, 8), (0x1000 - 4, 8), (0x2003, 61), (0x3000, 4080), (0x5FF0, 9000)]
"""(offset, length): aligned dwords, a page crossed, odd ends, about a page, several pages."""


def pattern(length: int, seed: int) -> bytes:
    """Make bytes that differ between any two neighbouring pages."""
    return bytes((seed + at * 7 + (at >> 8) * 13) & 0xFF for at in range(length))


@pytest.fixture
def window(nvme: Nvme, importer: Importer, cmb: Cmb) -> Window:
    """Import the whole CMB."""
    return importer.attach(nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]))


def test_cmb_write(nvme: Nvme, window: Window, cmb: Cmb) -> None:
    """An importer's write changes exactly the bytes that it addresses."""
    for offset, length in TRANSFERS:
        start, size = max(offset - GUARD, 0), length + 2 * GUARD
        nvme.device.write(cmb.region, cmb.offset + start, before := pattern(size, 3))
        window.write(offset, data := pattern(length, 101))
        lead = offset - start
        expected = before[:lead] + data + before[lead + length :]
        found = nvme.device.read(cmb.region, cmb.offset + start, size)
        must(found == expected, "an importer's write lands exactly where it aims", f"{length} bytes at {offset:#x}")


def test_cmb_read(nvme: Nvme, window: Window, cmb: Cmb) -> None:
    """An importer reads the bytes that the CPU wrote."""
    for offset, length in TRANSFERS:
        nvme.device.write(cmb.region, cmb.offset + offset, data := pattern(length, 57))
        must(window.read(offset, length) == data, "an importer reads what is in the BAR", f"{length} at {offset:#x}")

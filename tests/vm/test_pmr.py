# SPDX-License-Identifier: GPL-2.0-only
"""The content of a BAR of RAM, which the host reads from the file behind it: no register of the guest is in between."""

from contextlib import suppress

import pytest

from harness.cases import pmr_file
from harness.cases.constants import PAGE
from harness.cases.marks import rows_in
from harness.cases.must import must
from harness.errors import ImporterRefused
from harness.session import Importer, Nvme, Session

pytestmark = pytest.mark.machine("pmr")
rows = rows_in("pmr")

START, PAGES = 5 * PAGE, 4
LENGTH = 61
OFFSETS = (0, PAGE - 7, PAGES * PAGE - LENGTH)
"""Of the transfers in the buffer: its start, across two pages, its end."""


@rows("importers.content")
def test_content_as_the_host_sees_it(session: Session, nvme: Nvme, importer: Importer) -> None:
    """The host finds what an importer wrote, at its place and nowhere else, and nothing of a write after a revoke."""
    memory = nvme.pmr()
    nvme.device.write(memory.region, 0, bytes(16 * PAGE))
    buffer = nvme.device.export(memory.region, [(START, PAGES * PAGE)])
    window = importer.attach(buffer)
    expected = bytearray(16 * PAGE)
    for number, offset in enumerate(OFFSETS):
        data = bytes((number * 37 + at) & 0xFF or 1 for at in range(LENGTH))
        window.write(offset, data)
        expected[START + offset : START + offset + LENGTH] = data
    found = pmr_file.read(session, 0, len(expected))
    must(found == expected, "the file behind the BAR has an importer's bytes, each in its place")

    nvme.device.set_memory(False)
    with suppress(ImporterRefused):  # the file decides
        window.write(0, b"\xee" * LENGTH)
    nvme.device.set_memory(True)
    with suppress(ImporterRefused):
        window.write(PAGE, b"\xee" * LENGTH)
    found = pmr_file.read(session, 0, len(expected))
    must(found == expected, "a write through a dead mapping leaves no byte in the BAR")
    nvme.pmr()
    importer.attach(buffer).write(0, b"\xdd" * LENGTH)
    expected[START : START + LENGTH] = b"\xdd" * LENGTH
    found = pmr_file.read(session, 0, len(expected))
    must(found == expected, "a new mapping of the same fd reaches the BAR again")

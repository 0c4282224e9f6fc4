# SPDX-License-Identifier: GPL-2.0-only
"""The use case: a peer drives a controller whose submission queue and data buffer are in the CMB."""

import secrets

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.must import must
from harness.cases.probe import must_arrive, ring
from harness.session import Cmb, Importer, Nvme, Session
from harness.witness import Watch

QUEUE = 6
QUEUE_OFFSET, DATA_OFFSET = 0x0, 0x10000
"""Offsets in the CMB."""
BLOCK = 512
LBA = 7


@pytest.mark.contract("remote-io", "importers.live")
def test_remote_io(session: Session, nvme: Nvme, cmb: Cmb, importer: Importer, watch: Watch) -> None:
    """A peer writes a command into the CMB, rings the doorbell, and reads the disk's content from the CMB."""
    content = secrets.token_bytes(BLOCK)
    with session.machine.drive(UNDER_TEST).open("r+b") as disk:
        disk.seek(LBA * BLOCK)
        disk.write(content)
    nvme.create_io_queue(QUEUE, cmb_offset=QUEUE_OFFSET)
    memory = importer.attach(nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]))
    doorbells = importer.attach(nvme.export_doorbells())

    queued = nvme.queue_read(LBA, 1, qid=QUEUE, cmb_offset=DATA_OFFSET, write_entry=False)
    memory.write(queued.offset, queued.sqe)
    result = ring(nvme, doorbells, watch, queued=queued)

    must_arrive(result, "a peer's doorbell makes the controller fetch a command that a peer wrote")
    must(memory.read(DATA_OFFSET, BLOCK) == content, "a peer reads from the CMB what the host finds on the disk")

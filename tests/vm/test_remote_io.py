# SPDX-License-Identifier: GPL-2.0-only
"""The use case: a peer drives a controller whose submission queue and data buffer live in the CMB."""

import secrets

import pytest

from harness.cases.must import must
from harness.cases.probe import must_arrive, ring
from harness.session import Importer, Nvme, Session
from harness.witness import Watch

QUEUE, QUEUE_AT, DATA_AT = 6, 0x0, 0x10000  # queue id; offsets in the CMB
BLOCK = 512
LBA = 7


@pytest.mark.contract("remote-io", "importers.live")
def test_remote_io(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A peer writes a command into the CMB, rings the doorbell, and reads the disk's content back from the CMB."""
    content = secrets.token_bytes(BLOCK)
    with session.machine.drive("nvme0").open("r+b") as disk:
        disk.seek(LBA * BLOCK)
        disk.write(content)
    cmb = nvme.cmb()
    nvme.create_io_queue(QUEUE, cmb_offset=QUEUE_AT)
    memory = importer.attach(nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]))
    doorbells = importer.attach(nvme.export_doorbells())

    queued = nvme.queue_read(LBA, 1, qid=QUEUE, cmb_offset=DATA_AT, write_entry=False)
    memory.write(queued.offset, queued.sqe)
    result = ring(nvme, doorbells, watch, queued=queued)

    must_arrive(result, "a peer's doorbell makes the controller fetch a command that a peer wrote")
    must(memory.read(DATA_AT, BLOCK) == content, "a peer reads from the CMB what the host finds on the disk")

# SPDX-License-Identifier: GPL-2.0-only
"""A case in the middle of which the disk is full."""

from contextlib import suppress

from harness.cases import probe
from harness.cases.must import must
from harness.session import Nvme, Session
from harness.witness import Watch


def test_full(session: Session, nvme: Nvme, watch: Watch) -> None:
    """The doorbell is rung, and the trace cannot tell."""
    window = session.importer("iommufd+nvme").attach(nvme.export_doorbells())
    with session.machine.trace_path.with_name("filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    rang = probe.ring(nvme, probe.queue_command(nvme), window, watch)
    must(rang.arrived, "a live mapping of the doorbell page reaches the device", rang)

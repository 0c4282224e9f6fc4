# SPDX-License-Identifier: GPL-2.0-only
"""A case during which the disk becomes full."""

from contextlib import suppress

from harness.cases.probe import must_arrive, ring
from harness.session import Nvme, Session
from harness.witness import Watch


def test_full(session: Session, nvme: Nvme, watch: Watch) -> None:
    """A doorbell is rung, and the trace cannot record it."""
    window = session.importer("iommufd+nvme").attach(nvme.export_doorbells())
    with session.machine.trace_path.with_name("filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    must_arrive(ring(nvme, window, watch), "a live mapping of the doorbell page reaches the device")

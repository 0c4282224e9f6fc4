# SPDX-License-Identifier: GPL-2.0-only
"""Peer-to-peer doorbells: an importer's 4-byte store makes the controller act."""

import pytest

from harness.cases.must import must
from harness.cases.probe import must_arrive, ring
from harness.session import DmaBuf, Importer, Nvme
from harness.witness import Watch

pytestmark = pytest.mark.contract("doorbell", "importers.live")


def test_doorbell_reaches_the_controller(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A doorbell rung only through an importer makes the controller run the queued command."""
    queued = nvme.queue_identify()
    result = ring(nvme, importer.attach(buffer), watch, queued=queued)
    must_arrive(result, "a live mapping of the doorbell page reaches the device")
    must(result.values == [queued.tail], "one store of the importer is one write of that value", result)


def test_no_doorbell_no_completion(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """Control: attaching rings no doorbell, and a command whose doorbell is not rung does not run."""
    importer.attach(buffer)
    silence = ring(nvme, None, watch)
    must(silence.nothing, "an idle importer does not access the device", silence)

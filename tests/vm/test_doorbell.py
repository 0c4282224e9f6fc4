# SPDX-License-Identifier: GPL-2.0-only
"""Peer-to-peer doorbells: an importer's 4-byte store makes the controller act."""

import pytest

from harness.cases import probe
from harness.cases.must import must
from harness.session import Importer, Nvme
from harness.witness import Watch

pytestmark = pytest.mark.contract("doorbell", "importers.live")


def test_doorbell_reaches_the_controller(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A doorbell rung only through an importer makes the controller run the queued command."""
    window = importer.attach(nvme.export_doorbells())
    queued = probe.queue_command(nvme)
    rang = probe.ring(nvme, queued, window, watch)
    must(rang.arrived, "a live mapping of the doorbell page reaches the device", rang)
    must(rang.values == [queued.tail], "one store of the importer is one write of that value", rang)


def test_no_doorbell_no_completion(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Control: attaching alone rings nothing, and a queued command that nobody rings does not run."""
    importer.attach(nvme.export_doorbells())
    silence = probe.ring(nvme, probe.queue_command(nvme), None, watch)
    must(silence.nothing, "an importer that does nothing disturbs nothing", silence)

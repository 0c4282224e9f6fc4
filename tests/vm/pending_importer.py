# SPDX-License-Identifier: GPL-2.0-only
"""Cases that fail on the default kernel, by bugs that have no entry in vm-configs/known-issues.yaml yet. Not collected:
name the file to run it."""

from collections.abc import Callable

import pytest

from harness.contract import must
from harness.session import Attachment, Nvme, Session

Attach = Callable[..., Attachment]

CYCLES = 4096
ENTRY = 32
"""Bytes of a ``struct scatterlist`` on x86-64."""


@pytest.mark.contract("told", "lifecycle.told")
def test_told_of_an_unrevoke_an_importer_can_map(nvme: Nvme, attach: Attach) -> None:
    """An importer that is told of the end of a revoke can map at once, in the callback: nobody tells it again."""
    buffer = nvme.export_doorbells()
    eager = attach(buffer, remap=True)
    eager.map()
    nvme.device.set_memory(False)
    must(not eager.mapped(), "while the buffer is revoked the callback cannot map it again", eager.events())
    nvme.device.set_memory(True)
    must(eager.mapped(), "told that the buffer is back, an importer can map it", eager.events())


@pytest.mark.contract("importers", "around.memory")
def test_unmapping_gives_the_memory_back(session: Session, nvme: Nvme, attach: Attach) -> None:
    """Mapping and unmapping again and again leaves the kernel's memory as it was."""
    attachment = attach(nvme.export_doorbells())
    attachment.cycle(CYCLES // 8)  # what is allocated once
    before = session.slab()
    attachment.cycle(CYCLES)
    grown = session.slab() - before
    must(grown < CYCLES * ENTRY // 2, "an unmap frees the scatter list", f"{grown} bytes more after {CYCLES} maps")

# SPDX-License-Identifier: GPL-2.0-only
"""A refused attach, map, MAP_FILE or MR leaves neither a reference to the buffer nor memory."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import importers, rows_in
from harness.cases.must import must
from harness.cases.types import Features
from harness.errors import KernelErrno
from harness.session import Attachment, DmaBuf, Importer, Nvme, Session
from harness.session.leaks import leaks, summarize
from harness.session.races import Operation
from harness.session.repeat import attach_repeatedly, repeat

rows = rows_in("around")

TIMES = {"iommufd+nvme": 512, "rxe": 32}
"""Repetitions of an attach or an import. A refused MR takes milliseconds, and only its references are counted."""
MAPS = 12
"""How often a map is repeated for each attach: its smallest object, struct dma_buf_dma, has 32 bytes."""
NOISE = 64 << 10
"""Bytes by which the slab may grow. Objects of 128 bytes, one for each attach of one kind, are as much."""
WARM_UP = 16
UNCACHED = 64 * PAGE
"""Bytes of an IOVA area of which the kernel's IOVA allocator keeps no freed ones (IOVA_RANGE_CACHE_MAX_SIZE)."""


def importing(importer: Importer, buffer: DmaBuf, length: int) -> Operation:
    """Import the first ``length`` bytes."""
    return Operation(importer, "attach", {"dmabuf": buffer, "start": 0, "length": length})


def mapping(attachment: Attachment) -> Operation:
    """Map the buffer."""
    return Operation(attachment, "map", {})


class Refusals:
    """The refused calls on one buffer."""

    def __init__(self, session: Session, nvme: Nvme, importer: Importer) -> None:
        self.session = session
        self.nvme = nvme
        self.importer = importer
        self.buffer = nvme.export_doorbells()
        self.device_id = session.machine.config.with_role("roce")[0].id
        self.early = session.attach(self.buffer, device_id=self.device_id)
        """An attachment made while the buffer is live."""
        self.stranger = session.attach(self.buffer, device_id=None)
        """An attachment of a device that is not PCI, and so has no P2P route."""
        cmb = nvme.cmb()
        ranges = [(cmb.offset + at, UNCACHED) for at in (0, 2 * UNCACHED)]
        self.in_two = session.attach(nvme.device.export(cmb.region, ranges), device_id=self.device_id)
        """An attachment to a buffer of two ranges. On some kernels its map fails half way."""

    def make(self, times: int) -> None:
        """Make each call ``times`` times. State the errno of each."""
        size = self.buffer.size()
        self.nvme.device.set_memory(True)
        self._attach(times, "EOPNOTSUPP", static=True)
        self._attach(times, "EOPNOTSUPP", peer2peer=False)
        self._import(times, "EINVAL", 2 * size)
        self._map(times, "EINVAL", self.stranger)
        if self._fails_half_way():
            self._map(times, "EADDRINUSE", self.in_two)
        self.nvme.device.set_memory(False)
        self._attach(times, "ENODEV")
        self._import(times, "ENODEV", size)
        self._map(times, "ENODEV", self.early)

    def _fails_half_way(self) -> bool:
        """Return whether the kernel maps no second range (known issue ranges-at-one-iova)."""
        try:
            self.in_two.map()
        except KernelErrno as refusal:
            return refusal.name == "EADDRINUSE"
        self.in_two.unmap()
        return False

    def _attach(self, times: int, errno: str, *, static: bool = False, peer2peer: bool = True) -> None:
        found = attach_repeatedly(
            self.session, self.buffer, device_id=self.device_id, times=times, static=static, peer2peer=peer2peer
        )
        must(found == [errno], f"an attach with {static=} and {peer2peer=} gives {errno}", found)

    def _import(self, times: int, errno: str, length: int) -> None:
        found = repeat(self.session, importing(self.importer, self.buffer, length), times)
        must(found == [errno], f"{self.importer.kind.name} is refused with {errno}", found)

    def _map(self, times: int, errno: str, attachment: Attachment) -> None:
        found = repeat(self.session, mapping(attachment), MAPS * times)
        must(
            found == [errno], f"a map of a revoked buffer, without a route, or that fails half way gives {errno}", found
        )


@pytest.mark.needs("importer_rules", "dma-api", "test_importer")
@rows("around.refusals")
@importers("iommufd+nvme", "rxe")
def test_refusals_leave_nothing(session: Session, nvme: Nvme, importer: Importer, features: Features) -> None:
    """Refused attaches, maps and imports leave no reference to the buffer, and no memory."""
    times, refusals = TIMES[importer.kind.name], Refusals(session, nvme, importer)
    buffer = refusals.buffer
    refusals.make(WARM_UP)
    references, memory = buffer.fdinfo()["count"], session.slab()
    refusals.make(times)
    grown, left = session.slab() - memory, buffer.fdinfo()["count"]
    must(left == references, "a refused call leaves no reference to the buffer", f"{references}, then {left}")
    if importer.kind.name == "iommufd+nvme" and not features["kasan"]:  # KASAN keeps freed memory in quarantine
        must(grown < NOISE, "a refused call leaves no memory", f"{grown} bytes more, {times} of each call")


@pytest.mark.needs("kmemleak", "importer_rules", "dma-api", "test_importer")
@rows("around.refusals", "around.memory")
@importers("iommufd+nvme", "rxe")
def test_refusals_lose_nothing(session: Session, importer: Importer) -> None:
    """kmemleak finds no object that a refused attach, map or import allocated."""
    with leaks(session) as leaked:
        Refusals(session, session.open_nvme(), importer).make(WARM_UP)
        session.reset()
    must(not leaked, "what a refused call allocates is given back", summarize(leaked))

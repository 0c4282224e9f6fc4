# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own nvme driver as an importer: buffers registered with io_uring for its block device, and their revoke.

Blocks go between the disk of the importing controller and the CMB of the exporting one. The exporting controller has no
I/O queues here, so each doorbell of an I/O queue that the host sees is a command of the importing driver.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.cases.constants import PAGE
from harness.cases.marks import TRIGGERS, importers, rows_in, triggers
from harness.cases.must import must, must_fail
from harness.errors import ImporterRefused
from harness.session import Cmb, DmaBuf, Importer, Nvme, Session, Window
from harness.witness import Mark, Watch

rows = rows_in("io_uring")
pytestmark = pytest.mark.needs("nvme-driver")

BLOCK = 512
BYTES = 4 * PAGE
"""The size of the buffer (``cmb_buffer``)."""
MOVED, REFUSED = "a command and success", "no command and"
"""What host and importer saw of a request. An errno follows the second."""
Move = Callable[[int, int], None]
"""``Window.fill`` or ``Window.drain``: takes offset and length."""
TRANSFERS = [(0, BLOCK), (3 * BLOCK, BLOCK), (0x1204, BLOCK), (PAGE - BLOCK, 2 * BLOCK), (2 * PAGE, PAGE), (0, BYTES)]
"""(offset, length): a block, one at an odd dword, one on each side of a page's end, a page, a list of pages."""


def pattern(length: int, seed: int) -> bytes:
    """Make bytes that differ between any two neighbouring blocks."""
    return bytes((seed + at * 7 + (at >> 8) * 13) & 0xFF for at in range(length))


OLD, NEW, NEWER = (pattern(BLOCK, seed) for seed in (3, 101, 57))


@dataclass
class Bar:
    """The buffer, the CPU's view of it, and the witnesses. ``nvme``: the exporting controller, as it is open now."""

    session: Session
    nvme: Nvme
    cmb: Cmb
    buffer: DmaBuf
    watch: Watch

    def content(self, length: int = BYTES) -> bytes:
        """Read the buffer's first bytes with the CPU."""
        return self.nvme.device.read(self.cmb.region, self.cmb.offset, length)

    def write(self, data: bytes) -> None:
        """Write the buffer's first bytes with the CPU."""
        self.nvme.device.write(self.cmb.region, self.cmb.offset, data)

    def mapped(self, importer: Importer) -> bool | None:
        """Return whether the importer's page table has the buffer; None if it cannot be read."""
        found = self.session.page_table_entries(importer, self.nvme.device, self.buffer)
        return None if found is None else bool(found)

    def commands(self, mark: Mark) -> int:
        """Count the importing driver's commands that the host has seen since ``mark``."""
        return sum(bell.queue == "sq" and bell.qid > 0 for bell in self.watch.doorbells(mark))

    def put_on_disk(self, importer: Importer, data: bytes) -> None:
        """Put ``data`` on the disk. AssertionError, which is ERROR, if the host sees no command of that."""
        mark = self.watch.mark()
        importer.put_on_disk(data)
        assert self.commands(mark), "the witness does not see the importing driver's commands"

    def request(self, move: Move, offset: int, length: int) -> str:
        """Make one request. Returns whether the host saw a command, and the request's errno or success, in words."""
        mark = self.watch.mark()
        status = ""
        try:
            move(offset, length)
        except ImporterRefused as refusal:
            status = str(refusal)
        return f"{'a command' if self.commands(mark) else 'no command'} and {status or 'success'}"

    def must_move(self, move: Move, offset: int, length: int, sentence: str) -> None:
        """State that a request succeeds, and that the host sees its command."""
        seen = self.request(move, offset, length)
        must(seen == MOVED, sentence, seen)

    def must_refuse(self, move: Move, offset: int, length: int, refusal: str, sentence: str) -> None:
        """State that a request fails with an errno, and that its driver gives the controller no command."""
        seen = self.request(move, offset, length)
        must(seen == f"{REFUSED} {refusal}", sentence, seen)


@pytest.fixture
def bar(session: Session, nvme: Nvme, cmb: Cmb, cmb_buffer: DmaBuf, watch: Watch) -> Bar:
    """Export the first pages of the CMB."""
    return Bar(session, nvme, cmb, cmb_buffer, watch)


@dataclass
class Moving:
    """A registered buffer, whose first block was ``OLD`` when it was revoked."""

    bar: Bar
    importer: Importer
    window: Window
    visible: bool | None = None
    """Whether the importer's page table has the buffer while it is mapped: not where DMA goes by bus addresses."""

    def must_move(self, data: bytes, when: str) -> None:
        """State that a block reaches the BAR, and that the buffer is mapped."""
        self.bar.put_on_disk(self.importer, data)
        self.bar.must_move(self.window.fill, 0, BLOCK, f"{when} a READ_FIXED succeeds")
        found = self.bar.content(BLOCK)
        must(found == data, f"{when} a block reaches the BAR", found[:16].hex())
        must(self.bar.mapped(self.importer) == self.visible, f"{when} the buffer is mapped as it was at first")

    def must_be_unmapped(self, when: str) -> None:
        """State that the IOMMU does not map the buffer for the importer's device."""
        must(not self.bar.mapped(self.importer), f"{when} the importer's page table has nothing of the buffer")

    def must_be_refused(self, when: str) -> None:
        """Put ``NEW`` on the disk, and state that neither it nor a byte of the BAR moves."""
        self.bar.put_on_disk(self.importer, NEW)
        self.bar.must_refuse(self.window.fill, 0, BLOCK, "ENODEV", f"{when} a READ_FIXED is refused")
        self.bar.must_refuse(self.window.drain, 0, BLOCK, "ENODEV", f"{when} a WRITE_FIXED is refused")
        must(self.importer.on_disk(BLOCK) == NEW, f"{when} no byte of the BAR reaches the disk")

    def must_be_untouched(self, when: str) -> None:
        """State that the BAR has the bytes that it had before the revoke."""
        found = self.bar.content(BLOCK)
        must(found == OLD, f"{when} no byte reaches the BAR", found[:16].hex())


@pytest.fixture
def moving(bar: Bar, importer: Importer) -> Moving:
    """Register the buffer, and move a block."""
    moving = Moving(bar, importer, importer.attach(bar.buffer))
    bar.put_on_disk(importer, NEW)
    bar.must_move(moving.window.fill, 0, BLOCK, "a READ_FIXED of a live buffer succeeds")
    moving.visible = bar.mapped(importer)
    moving.must_move(OLD, "before the revoke")
    return moving


@rows("importers.block")
@importers("io_uring+nvme")
def test_blocks_arrive(bar: Bar, importer: Importer) -> None:
    """Blocks that a READ_FIXED takes from the disk land in the BAR exactly where they aim."""
    window = importer.attach(bar.buffer)
    for offset, length in TRANSFERS:
        bar.write(before := pattern(BYTES, 3))
        importer.put_on_disk(data := pattern(length, 101))
        bar.must_move(window.fill, offset, length, "a READ_FIXED into a BAR succeeds")
        expected = before[:offset] + data + before[offset + length :]
        must(bar.content() == expected, "the blocks land where they aim", f"{length} bytes at {offset:#x}")


@rows("importers.block")
@importers("io_uring+nvme")
def test_blocks_are_read(bar: Bar, importer: Importer) -> None:
    """A WRITE_FIXED puts the bytes of the BAR on the disk."""
    window = importer.attach(bar.buffer)
    bar.write(data := pattern(BYTES, 57))
    for offset, length in TRANSFERS:
        importer.put_on_disk(bytes(length))
        bar.must_move(window.drain, offset, length, "a WRITE_FIXED from a BAR succeeds")
        found = importer.on_disk(length)
        must(found == data[offset : offset + length], "the disk has the BAR's bytes", f"{length} at {offset:#x}")


@rows("importers.block-revoked", "importers.page-table")
@triggers(
    *("command-mem io_uring+nvme", "d3hot io_uring+nvme", "low-power io_uring+nvme"),
    *("low-power-wakeup io_uring+nvme", "reset io_uring+nvme", "flr io_uring+nvme", "hot-reset io_uring+nvme"),
    area="io_uring",
)
def test_a_revoke_stops_io(bar: Bar, importer: Importer, moving: Moving, trigger: str) -> None:
    """While a buffer is revoked I/O fails and moves nothing. After it the same registration moves blocks again."""
    action, device = TRIGGERS[trigger], bar.nvme.device
    action.act(device)
    moving.must_be_unmapped(f"{trigger} has revoked:")
    if action.undo:
        moving.must_be_refused(f"while {trigger} lasts")
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be registered"):
            importer.attach(bar.buffer)
        action.undo(device)
        moving.must_be_unmapped(f"until the next request after {trigger}")
    bar.nvme.start()
    bar.nvme.cmb()
    moving.must_be_untouched(f"by {trigger}")
    moving.must_move(NEWER, f"after {trigger}, without another registration,")


@rows("importers.block-revoked", "lifecycle.close")
@importers("io_uring+nvme")
def test_a_close_stops_io_for_good(bar: Bar, importer: Importer, moving: Moving) -> None:
    """After the device's last close I/O fails for ever, also when the device is open again."""
    bar.nvme.device.close()
    moving.must_be_unmapped("after the last close")
    moving.must_be_refused("after the last close")
    bar.nvme = bar.session.open_nvme()
    moving.must_be_refused("when the device is open again")
    bar.nvme.cmb()
    moving.must_be_untouched("after the last close")
    window = importer.attach(bar.nvme.device.export(bar.cmb.region, bar.buffer.ranges))
    bar.must_move(window.fill, 0, BLOCK, "an export of the reopened device takes blocks")
    found = bar.content(BLOCK)
    must(found == NEW, "a block reaches the reopened device", found[:16].hex())


@rows("importers.block-revoked", "lifecycle.reset")
@importers("io_uring+nvme")
def test_io_during_a_reset(bar: Bar, moving: Moving) -> None:
    """While VFIO_DEVICE_RESET runs, each request moves its block or gives ENODEV. After it blocks move again."""
    resetting = bar.session.start(bar.nvme.device.reset)
    outcomes = []
    while not resetting.done():
        outcomes.append(bar.request(moving.window.fill, 0, BLOCK))
    resetting.result()
    seen = sorted(set(outcomes))
    must(not set(seen) - {MOVED, f"{REFUSED} ENODEV"}, "a request during a reset moves its block or gives ENODEV", seen)
    bar.nvme.start()
    bar.nvme.cmb()
    moving.must_move(NEWER, "after a reset that ran beside requests")


@rows("importers.block-refused")
@importers("io_uring+nvme")
def test_refusals(bar: Bar, importer: Importer) -> None:
    """What is no dma-buf is not registered, and requests beyond a buffer are refused."""
    for kind, refusal in (("memfd", "EINVAL"), ("eventfd", "EINVAL"), ("none", "EBADF")):
        with must_fail(refusal, f"a {kind} cannot be registered as a dma-buf"):
            importer.attach(bar.session.other_file(kind), 0, PAGE)
    window = importer.attach(bar.buffer)
    before = bar.content()
    for offset, length in ((BYTES, BLOCK), (BYTES - BLOCK, 2 * BLOCK)):
        bar.must_refuse(window.fill, offset, length, "EFAULT", "a request beyond the buffer gives EFAULT")
    must(bar.content() == before, "a refused request moves nothing")
    bar.must_move(window.fill, BYTES - BLOCK, BLOCK, "the buffer's last block can be filled")


@rows("importers.block", "lifecycle.last-reference")
@importers("io_uring+nvme")
def test_a_registration_keeps_the_buffer(bar: Bar, moving: Moving) -> None:
    """A registered buffer outlives the dma-buf's fd, and a revoke still reaches it."""
    bar.buffer.close()
    moving.must_move(NEWER, "after the close of the dma-buf's fd")
    moving.must_move(OLD, "a second time")
    bar.nvme.device.set_memory(False)
    moving.must_be_refused("once a buffer is revoked that only its registration holds")
    bar.nvme.device.set_memory(True)
    moving.must_be_untouched("through the revoke")

# SPDX-License-Identifier: GPL-2.0-only
"""A reset of the function that fails: it revokes before, and un-revokes after, like one that succeeds."""

from collections.abc import Callable

from harness.cases.constants import UNDER_TEST
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.session import Importer, Nvme, Session, pci
from harness.witness import Watch

rows = rows_in("lifecycle")


@rows("lifecycle.reset", "lifecycle.flr")
@importers("iommufd+nvme")
def test_failed_reset_unrevokes(session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch) -> None:
    """A reset that fails, for lack of a method or for a lock that another holds, revokes and un-revokes."""
    device, buffer = nvme.device, nvme.export_doorbells()
    attachment = attach(buffer)

    def must_unrevoke(act: Callable[[], None]) -> None:
        old, before = importer.attach(buffer), attachment.notifications()
        attachment.map()
        act()
        must(attachment.notifications() == before + 2, "a failed reset revokes and un-revokes", attachment.events())
        must(not attachment.mapped(), "a failed reset revokes each mapping", attachment.events())
        attachment.map()
        attachment.unmap()
        result = ring_once(nvme.queue_identify(), old, watch)
        must_be_blocked(result, "a mapping made before a failed reset is dead for good")
        result = ring(nvme, importer.attach(buffer), watch)
        must_arrive(result, "after a failed reset a new mapping of the same fd is live, and the device runs on")

    def reset(errno: str) -> None:
        with must_fail(errno, f"a reset that cannot be done gives {errno}"):
            device.reset()

    with pci.without_reset_methods(session, UNDER_TEST):
        must_unrevoke(lambda: reset("ENOTTY"))
        must_unrevoke(device.flr)
    device.enable_request_irq()
    unbind = session.start(session.unbind, UNDER_TEST)  # holds the lock of the device until the close
    try:
        must(device.release_requested(), "an unbind requests the device from its user")
        must_unrevoke(lambda: reset("EAGAIN"))
        must_unrevoke(device.flr)
    finally:
        device.close()
        unbind.result()


@rows("lifecycle.reset")
@importers("iommufd+nvme")
def test_a_reset_without_a_method_is_refused(
    session: Session, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """A device that no method could reset when it was opened refuses VFIO_DEVICE_RESET, and revokes nothing."""
    with pci.without_reset_methods(session, UNDER_TEST):
        nvme = session.open_nvme()
        buffer = nvme.export_doorbells()
        attachment, window = attach(buffer), importer.attach(buffer)
        attachment.map()
        with must_fail("EINVAL", "VFIO_DEVICE_RESET of a device that cannot be reset is refused"):
            nvme.device.reset()
        must(not attachment.notifications(), "a refused reset notifies no importer", attachment.events())
        must_arrive(ring(nvme, window, watch), "a refused reset disturbs no mapping")

# SPDX-License-Identifier: GPL-2.0-only
"""The low-power calls that are refused, probed, repeated, or made in D3hot."""

import struct

from harness.cases.constants import PCI_D0, UNDER_TEST, PCI_D3hot
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.cases.types import Attach
from harness.errors import KernelErrno
from harness.session import DmaBuf, Importer, Nvme, Session, pci
from harness.session.feature_request import (
    HEADER_SIZE,
    LOW_POWER_ENTRY,
    LOW_POWER_ENTRY_WITH_WAKEUP,
    LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    FeatureClient,
    wakeup,
)
from harness.witness import Watch

rows = rows_in("lifecycle")

CLOSED_FD = 1 << 20


REFUSED = {
    "LOW_POWER_ENTRY by GET": (LOW_POWER_ENTRY | VFIO_DEVICE_FEATURE_GET, b"", "EINVAL"),
    "LOW_POWER_ENTRY_WITH_WAKEUP by GET": (LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_GET, wakeup(0), "EINVAL"),
    "LOW_POWER_EXIT by GET": (LOW_POWER_EXIT | VFIO_DEVICE_FEATURE_GET, b"", "EINVAL"),
    "a wake-up without a payload": (LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET, b"", "EINVAL"),
    "a negative eventfd": (LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET, wakeup(-1), "EINVAL"),
    "an eventfd that is closed": (LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET, wakeup(CLOSED_FD), "EBADF"),
    "a file that is no eventfd": (LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET, wakeup(0), "EINVAL"),
}
"""Calls that are refused: flags, payload and errno. fd 0 of the agent is a pipe or a socket."""


@rows("lifecycle.low-power-arguments")
@importers("iommufd+nvme")
def test_a_refused_entry_disturbs_nothing(
    session: Session, nvme: Nvme, attach: Attach, importer: Importer, watch: Watch
) -> None:
    """An entry into low power that is refused, and a PROBE of one, revoke nothing."""
    buffer = nvme.export_doorbells()
    attachment, window = attach(buffer), importer.attach(buffer)
    attachment.map()
    for name, (flags, payload, errno) in REFUSED.items():
        with must_fail(errno, f"{name} is refused"):
            nvme.device.feature(flags, payload)
    header = struct.pack("<II", HEADER_SIZE + len(wakeup(0)), LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET)
    outcome = FeatureClient(session, nvme.device).request_bytes(header + wakeup(0), readable=HEADER_SIZE)
    must(outcome.errno == "EFAULT", "a wake-up with an unreadable payload is refused with EFAULT", outcome)
    for feature in (LOW_POWER_ENTRY, LOW_POWER_ENTRY_WITH_WAKEUP, LOW_POWER_EXIT):
        nvme.device.feature(feature | VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET)
    must(not attachment.notifications(), "a refused or probed entry notifies no importer", attachment.events())
    must_arrive(ring(nvme, window, watch), "a refused or probed entry disturbs no mapping")


@rows("lifecycle.low-power-arguments", "lifecycle.low-power")
@importers("iommufd+nvme")
def test_a_second_entry(nvme: Nvme, buffer: DmaBuf, attach: Attach, importer: Importer, watch: Watch) -> None:
    """In low power a second entry is refused, neither it nor a PROBE un-revokes, and one exit does."""
    attachment, window = attach(buffer), importer.attach(buffer)
    queued = nvme.queue_identify()
    nvme.device.low_power_entry()
    for second in (LOW_POWER_ENTRY, LOW_POWER_ENTRY_WITH_WAKEUP):
        with_wakeup = second == LOW_POWER_ENTRY_WITH_WAKEUP
        with must_fail("EINVAL", "a second entry into low power is refused"):
            nvme.device.low_power_entry_with_wakeup() if with_wakeup else nvme.device.low_power_entry()
        with must_fail("ENODEV", "a second entry into low power un-revokes nothing"):
            attachment.map()
    nvme.device.feature(LOW_POWER_EXIT | VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET)
    with must_fail("ENODEV", "a PROBE of LOW_POWER_EXIT un-revokes nothing"):
        importer.attach(buffer)
    must(attachment.notifications() == 1, "only the first entry notifies", attachment.events())
    nvme.device.low_power_exit()
    must(attachment.notifications() == 2, "the exit notifies once", attachment.events())
    nvme.device.low_power_exit()
    must(attachment.notifications() == 2, "a second exit notifies no importer", attachment.events())
    nvme.start()
    must_be_blocked(ring_once(queued, window, watch), "a mapping made before low power is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after one exit a new mapping of the same fd is live")


@rows("lifecycle.low-power-arguments")
def test_the_eventfd_0(session: Session, nvme: Nvme, buffer: DmaBuf, attach: Attach) -> None:
    """LOW_POWER_ENTRY_WITH_WAKEUP takes an eventfd whose number is 0."""
    attachment, process = attach(buffer), session.fork()
    process.copy_of(nvme.device).low_power_entry_with_wakeup(number=0)
    must(attachment.notifications() == 1, "an entry whose eventfd has the number 0 revokes", attachment.events())
    nvme.device.low_power_exit()
    attachment.map()


@rows("lifecycle.low-power", "lifecycle.combined", "lifecycle.power")
@importers("iommufd+nvme")
def test_low_power_in_d3hot(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """After low power in D3hot a buffer is live exactly if the device is in D0, and D0 un-revokes in any case."""
    device = nvme.device
    device.set_power_state(PCI_D3hot)
    device.low_power_entry()
    pci.suspended(session, UNDER_TEST)  # the suspend ends D3hot, if the kernel suspends
    with must_fail("ENODEV", "a device in D3hot and in low power stays revoked"):
        importer.attach(buffer)
    device.low_power_exit()
    in_d0 = pci.power_state(session, UNDER_TEST) == "D0"
    try:
        importer.attach(buffer).close()
        live = True
    except KernelErrno as refusal:
        must(refusal.name == "ENODEV", "a revoked buffer is refused with ENODEV", refusal)
        live = False
    must(live == in_d0, "after LOW_POWER_EXIT a buffer is live exactly if the device is in D0", f"{live=} {in_d0=}")
    device.set_power_state(PCI_D0)
    nvme.start()
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after D3hot and low power a new mapping is live")

# SPDX-License-Identifier: GPL-2.0-only
"""Hot reset of a slot with several functions: through any function, it revokes everything that it resets."""

import pytest

from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.cases.types import Attach
from harness.session import HOLD_MS, Importer, Nvme, Session
from harness.witness import Watch

rows = rows_in("multifunction")
on_one_group = pytest.mark.machine("multifunction")

SLOT = ["nvme0", "nvme0f1", "edu0f2"]


@pytest.fixture
def sibling(session: Session, nvme: Nvme) -> Nvme:
    """The slot's second controller, open in the same address space."""
    return session.open_nvme("nvme0f1", same_ioas_as=nvme.device)


@on_one_group
@rows("lifecycle.hot-reset")
def test_hot_reset_info_lists_the_slot(session: Session, nvme: Nvme) -> None:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO lists each function of the slot, open or not."""
    listed = [(each["bus"], each["devfn"]) for each in nvme.device.hot_reset_info()]
    expected = []
    for function in SLOT:
        bus, slot, number = session.bdf(function)[5:].replace(".", ":").split(":")
        expected.append((int(bus, 16), int(slot, 16) << 3 | int(number)))
    must(sorted(listed) == sorted(expected), "the hot reset info of a function lists all of its slot", listed)


@on_one_group
@rows("lifecycle.hot-reset")
@importers("iommufd+nvme", "rxe")
def test_hot_reset_revokes_the_siblings(nvme: Nvme, sibling: Nvme, importer: Importer, watch: Watch) -> None:
    """A hot reset through one function revokes the exports of every open function, and un-revokes them after it."""
    functions = {"the function that is reset": nvme, "its sibling": sibling}
    buffers = {name: function.export_doorbells() for name, function in functions.items()}
    windows = {name: importer.attach(buffer) for name, buffer in buffers.items()}
    for name, function in functions.items():
        must_arrive(ring(function, windows[name], watch), f"before the hot reset the mapping of {name} is live")

    nvme.device.hot_reset()
    for name, function in functions.items():
        function.start()
        must_be_blocked(ring(function, windows[name], watch), f"a hot reset kills the mappings of {name}")
    for name, function in functions.items():
        result = ring(function, importer.attach(buffers[name]), watch)
        must_arrive(result, f"after a hot reset a new mapping of {name} is live")


@on_one_group
@rows("lifecycle.hot-reset")
@importers("iommufd+nvme", "rxe")
def test_hot_reset_leaves_the_closed_alone(
    session: Session, nvme: Nvme, sibling: Nvme, importer: Importer, watch: Watch
) -> None:
    """A hot reset does not un-revoke the buffer of a function that was closed before it."""
    buffer = sibling.export_doorbells()
    old = importer.attach(buffer)
    sibling.device.close()
    nvme.device.hot_reset()
    nvme.start()
    with must_fail("ENODEV", "after a hot reset the buffer of a closed function stays revoked"):
        importer.attach(buffer)
    reopened = session.open_nvme("nvme0f1", same_ioas_as=nvme.device)
    result = ring(reopened, old, watch)
    must_be_blocked(result, "a mapping of a function that was closed stays dead after a hot reset")


def reset_last(session: Session, *device_ids: str) -> None:
    """Let the kernel visit these functions last in a hot reset: it visits them in the order of their probes."""
    for device_id in device_ids:
        session.unbind(device_id)


@pytest.mark.machine("no-iommu-slot")
@rows("lifecycle.hot-reset-refused")
@importers("rxe")
def test_unowned_hot_reset_revokes_nothing(session: Session, importer: Importer, watch: Watch) -> None:
    """A hot reset that is refused with EINVAL, because the user owns only one of the groups, revokes nothing."""
    reset_last(session, *SLOT[1:])
    nvme = session.open_nvme()
    window = importer.attach(nvme.export_doorbells())
    must_arrive(ring(nvme, window, watch), "before the hot reset the mapping is live")
    with must_fail("EINVAL", "a hot reset of a slot is refused without the groups of all its functions"):
        nvme.device.hot_reset()
    must_arrive(ring(nvme, window, watch), "a mapping outlives a hot reset that is refused with EINVAL")


@on_one_group
@rows("lifecycle.hot-reset-refused")
@importers("iommufd+nvme")
def test_a_hot_reset_without_all_functions(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A hot reset that is refused with EINVAL, because vfio has not all functions of the slot, revokes nothing."""
    window = importer.attach(nvme.export_doorbells())
    session.unbind("nvme0f1")
    with must_fail("EINVAL", "a hot reset is refused while a function of the slot is not bound to vfio"):
        nvme.device.hot_reset()
    must_arrive(ring(nvme, window, watch), "a mapping outlives a hot reset that is refused")


@on_one_group
@pytest.mark.needs("importer_rules", "awaited_revoke")
@rows("lifecycle.hot-reset-refused")
@importers("iommufd+nvme", "rxe")
def test_busy_hot_reset_revokes_nothing(session: Session, importer: Importer, attach: Attach, watch: Watch) -> None:
    """A hot reset that is refused with EBUSY, because another function is in a reset, revokes nothing."""
    reset_last(session, *SLOT[1:])
    nvme = session.open_nvme()
    sibling = session.open_nvme("nvme0f1", same_ioas_as=nvme.device)
    window = importer.attach(nvme.export_doorbells())
    must_arrive(ring(nvme, window, watch), "before the hot reset the mapping is live")
    holder = attach(sibling.export_doorbells(), delay_ms=HOLD_MS)
    holder.map()
    pending = session.start(sibling.device.reset)
    try:
        must(holder.wait_notified(), "a reset of the sibling notifies the sibling's importer", holder.events())
        with must_fail("EBUSY", "a hot reset is refused while the reset of a sibling waits for its importer"):
            nvme.device.hot_reset()
    finally:
        holder.close()
        pending.result()
    must_arrive(ring(nvme, window, watch), "a mapping outlives a hot reset that is refused with EBUSY")

# SPDX-License-Identifier: GPL-2.0-only
"""Hot reset of a slot of several functions: what it resets it revokes, whichever function was asked."""

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.session import Importer, Nvme, Session
from harness.witness import Watch

pytestmark = [pytest.mark.machine("multifunction"), pytest.mark.contract("multifunction", "lifecycle.hot-reset")]

SLOT = ["nvme0", "nvme0f1", "edu0f2"]
IMPORTERS = pytest.mark.parametrize("importer", ["iommufd+nvme", "rxe"], indirect=True)


@pytest.fixture
def sibling(session: Session, nvme: Nvme) -> Nvme:
    """The slot's second controller, open in the same address space."""
    return session.open_nvme("nvme0f1", same_ioas_as=nvme.device)


def test_hot_reset_tells_its_functions(session: Session, nvme: Nvme) -> None:
    """The devices that a hot reset is said to reset are the functions of the slot, open or not."""
    told = [(each["bus"], each["devfn"]) for each in nvme.device.hot_reset_info()]
    due = []
    for function in SLOT:
        bus, slot, number = session.bdf(function)[5:].replace(".", ":").split(":")
        due.append((int(bus, 16), int(slot, 16) << 3 | int(number)))
    must(sorted(told) == sorted(due), "a hot reset of a function is told to reset all of its slot", told)


@IMPORTERS
def test_hot_reset_revokes_the_siblings(nvme: Nvme, sibling: Nvme, importer: Importer, watch: Watch) -> None:
    """A hot reset through one function revokes what every open function has exported, and un-revokes it after."""
    both = {"the function that was asked": nvme, "its sibling": sibling}
    buffers = {who: each.export_doorbells() for who, each in both.items()}
    windows = {who: importer.attach(buffer) for who, buffer in buffers.items()}
    for who, each in both.items():
        must_arrive(ring(each, windows[who], watch), f"before the hot reset the mapping of {who} is live")

    nvme.device.hot_reset()
    for who, each in both.items():
        each.start()
        must_be_blocked(ring(each, windows[who], watch), f"a hot reset kills the mappings of {who}")
    for who, each in both.items():
        result = ring(each, importer.attach(buffers[who]), watch)
        must_arrive(result, f"after a hot reset a new mapping of {who} is live")


@IMPORTERS
def test_hot_reset_leaves_the_closed_alone(
    session: Session, nvme: Nvme, sibling: Nvme, importer: Importer, watch: Watch
) -> None:
    """A hot reset un-revokes only what is open: the buffer of a function that was closed before it stays dead."""
    buffer = sibling.export_doorbells()
    old = importer.attach(buffer)
    sibling.device.close()
    nvme.device.hot_reset()
    nvme.start()
    with must_fail("ENODEV", "a hot reset does not bring back the buffer of a function that is closed"):
        importer.attach(buffer)
    again = session.open_nvme("nvme0f1", same_ioas_as=nvme.device)
    must_be_blocked(ring(again, old, watch), "a mapping of a function that was closed stays dead after a hot reset")

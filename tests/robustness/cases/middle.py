# SPDX-License-Identifier: GPL-2.0-only
"""Failures of the harness or the host in the middle of each kind of case. Each must be ERROR.

test_lost_in_a_case.py runs this file.
"""

from collections.abc import Callable

import pytest
from damage import CALLS, DAMAGE

from harness.cases.probe import ring
from harness.session import HOLD_MS, Nvme, Session
from harness.witness import Watch

CarryOn = Callable[[], object]


def importing(name: str) -> Callable[[Session, Nvme, Watch], CarryOn]:
    """Make a kind of case that rings a doorbell through a live mapping, again and again."""

    def begin(session: Session, nvme: Nvme, watch: Watch) -> CarryOn:
        window = session.importer(name).attach(nvme.export_doorbells())
        return lambda: ring(nvme, window, watch)

    return begin


def waiting(session: Session, nvme: Nvme, watch: Watch) -> CarryOn:
    """A reset runs on a thread of its own and waits for an importer that does not unmap."""
    slow = session.attach(nvme.export_doorbells(), device_id="edu0", delay_ms=HOLD_MS)
    slow.map()
    reset = session.start(nvme.device.reset)
    assert slow.wait_notified()
    return reset.result


KINDS = {
    "iommufd": importing("iommufd+nvme"),
    "rxe": importing("rxe"),
    "dma-api": importing("dma-api+edu"),
    "waiting": waiting,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trouble", ["kill_qemu", "cut_ssh", "keep_memory", "reset_from_outside"])
def test_middle(session: Session, nvme: Nvme, watch: Watch, kind: str, trouble: str) -> None:
    """The case begins, the trouble happens, and the case tries to carry on."""
    carry_on = KINDS[kind](session, nvme, watch)
    DAMAGE[trouble](session)
    for _ in range(CALLS):
        carry_on()

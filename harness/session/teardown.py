# SPDX-License-Identifier: GPL-2.0-only
"""Processes in the guest that are killed while they have files of vfio open."""

import os
from collections.abc import Sequence

from harness.session.device import DmaBuf
from harness.session.export import Range
from harness.session.handle import Handle
from harness.session.importers import Importer
from harness.session.nvme import REGISTERS
from harness.session.session import Session


def kill_with_open(session: Session, device_id: str, ranges: Sequence[Range], closes: Sequence[str]) -> None:
    """Kill a process that has a device, an export of it, and a mapping of that export open.

    A new process opens the device, exports ``ranges`` of BAR 0, and maps the buffer into the device's address space.
    It closes ``closes`` (of ``buffer``, ``device``, ``iommufd``) in that order and is killed with the rest open.
    """
    session.release_device(device_id)
    session.bind(device_id)
    uapi = session.export_uapi
    session.agent.call(
        "teardown",
        "kill_after",
        bdf=session.bdf(device_id),
        feature=uapi.feature,
        payload=uapi.payload(REGISTERS, ranges, os.O_RDWR | os.O_CLOEXEC, 0),
        closes=list(closes),
    )


def import_in_process(session: Session, importer: Importer, buffer: DmaBuf) -> Handle:
    """Map a buffer for the device of an iommufd importer in a process of its own. ``close`` kills the process.

    The process opens the device and makes an address space for it. The importer itself is closed.
    """
    session.release_device(importer.device_id)
    session.bind(importer.device_id)
    return Handle(session.agent, session.agent.call("teardown", "ImporterProcess", bdf=importer.bdf, dmabuf=buffer))

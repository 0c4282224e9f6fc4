# SPDX-License-Identifier: GPL-2.0-only
"""Devices that are opened by their group: each trigger revokes as it does for a device that is opened by its cdev."""

from typing import Literal

import pytest

from harness.cases.marks import TRIGGERS, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.session import Session
from harness.witness import Watch

pytestmark = [
    pytest.mark.machine("intel-iommu", "multifunction", "virtio-iommu", "arm64-smmuv3"),
    pytest.mark.needs("iommufd", "vfio_group"),
]
rows = rows_in("groups")

IMPORTER = "iommufd+nvme"
REVOKED_BY = ("command-mem", "d3hot", "reset", "flr", "hot-reset")


@rows("lifecycle.group", "lifecycle.hot-reset", "lifecycle.close")
@pytest.mark.parametrize(
    "via", [pytest.param("group", marks=pytest.mark.needs("vfio_container")), pytest.param("iommufd-group")]
)
def test_each_trigger_revokes(session: Session, via: Literal["group", "iommufd-group"], watch: Watch) -> None:
    """Each trigger revokes the export of a device that is opened by its group, and un-revokes it afterwards."""
    nvme = session.open_nvme(via=via)
    importer = session.importer_in_a_group(IMPORTER) if via == "iommufd-group" else session.importer(IMPORTER)
    buffer = nvme.export_doorbells()
    for name in REVOKED_BY:
        trigger = TRIGGERS[name]
        window = importer.attach(buffer)
        must_arrive(ring(nvme, window, watch), f"before {name} the mapping is live")
        trigger.act(nvme.device)
        if trigger.undo:
            with must_fail("ENODEV", f"after {name} a device that is opened by its group is revoked"):
                importer.attach(buffer)
            trigger.undo(nvme.device)
        nvme.start()
        must_be_blocked(ring_once(nvme.queue_identify(), window, watch), f"{name} revokes the mapping")
        must(window.detach() == buffer.size(), f"the mapping that {name} revoked is unmapped whole")
    window, queued = importer.attach(buffer), nvme.queue_identify()
    must_arrive(ring_once(queued, window, watch), "after each trigger a new mapping is live")
    nvme.device.close()
    must_be_blocked(ring_once(queued, window, watch), "the last close revokes the mapping")
    with must_fail("ENODEV", "after the last close the buffer cannot be mapped"):
        importer.attach(buffer)

# SPDX-License-Identifier: GPL-2.0-only
"""Observe a guest from the host: doorbells, DMA faults, kernel complaints, QEMU's warnings."""

from harness.witness.device_log import DeviceDma, DeviceEvent
from harness.witness.doorbell import Doorbell, DoorbellTrace
from harness.witness.iommu_faults import DmaFault, IommuFaults, Mark
from harness.witness.iommu_maps import IommuMap
from harness.witness.selfcheck import prove, prove_devices
from harness.witness.splat import Splat, find_splats
from harness.witness.watch import Observed, Watch, Witnesses

__all__ = [
    "DeviceDma",
    "DeviceEvent",
    "DmaFault",
    "Doorbell",
    "DoorbellTrace",
    "IommuFaults",
    "IommuMap",
    "Mark",
    "Observed",
    "Splat",
    "Watch",
    "Witnesses",
    "find_splats",
    "prove",
    "prove_devices",
]

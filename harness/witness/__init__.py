# SPDX-License-Identifier: GPL-2.0-only
"""What the host sees of a guest, without asking it: doorbells, DMA faults, kernel complaints, QEMU's warnings."""

from harness.witness.doorbell import Doorbell, DoorbellTrace, NotWitnessed
from harness.witness.iommu_faults import DmaFault, IommuFaults
from harness.witness.iommu_maps import IommuMap
from harness.witness.leaks import Snapshot, left_behind
from harness.witness.splat import Splat, find_splats
from harness.witness.watch import Observed, Watch, Witnesses

__all__ = [
    "DmaFault",
    "Doorbell",
    "DoorbellTrace",
    "IommuFaults",
    "IommuMap",
    "NotWitnessed",
    "Observed",
    "Snapshot",
    "Splat",
    "Watch",
    "Witnesses",
    "find_splats",
    "left_behind",
]

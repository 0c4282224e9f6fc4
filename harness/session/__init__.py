# SPDX-License-Identifier: GPL-2.0-only
"""A booted machine with its guest agent, and typed handles on the objects in the guest."""

from harness.session.access import Access, UserMemory
from harness.session.attachment import HOLD_MS, Attachment, Direction, FenceUsage, Umem, UmemKind
from harness.session.client import Agent, Caller, Pending
from harness.session.device import CpuMapping, Device, DmaBuf, SyncFile, Timeline
from harness.session.export import MAINLINE, ExportUapi
from harness.session.importers import IMPORTERS, Action, Importer, ImporterKind, Window
from harness.session.ioas import IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, READ_WRITE, Ioas
from harness.session.klog import KernelLog
from harness.session.nvme import Cmb, Completion, Nvme, QueuedCommand
from harness.session.page_table import PageTableEntry
from harness.session.peer import Peer, Requester
from harness.session.process import Process
from harness.session.session import Session
from harness.session.stimuli import Stimuli

__all__ = [
    "HOLD_MS",
    "IMPORTERS",
    "IOMMU_IOAS_MAP_READABLE",
    "IOMMU_IOAS_MAP_WRITEABLE",
    "MAINLINE",
    "READ_WRITE",
    "Access",
    "Action",
    "Agent",
    "Attachment",
    "Caller",
    "Cmb",
    "Completion",
    "CpuMapping",
    "Device",
    "Direction",
    "DmaBuf",
    "ExportUapi",
    "FenceUsage",
    "Importer",
    "ImporterKind",
    "Ioas",
    "KernelLog",
    "Nvme",
    "PageTableEntry",
    "Peer",
    "Pending",
    "Process",
    "QueuedCommand",
    "Requester",
    "Session",
    "Stimuli",
    "SyncFile",
    "Timeline",
    "Umem",
    "UmemKind",
    "UserMemory",
    "Window",
]

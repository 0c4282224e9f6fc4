# SPDX-License-Identifier: GPL-2.0-only
"""The record of a run, for tests that care about its cases."""

from typing import Any

from harness.report.text import summarise
from harness.verdict import CaseRecord, HostRecord, KernelRecord, RunRecord

HOST = HostRecord(qemu="7.2.22", accel="tcg", accel_reason="", cpu="")
KERNEL = KernelRecord(release="7.2.12", origin="debian:7.2.12", config_hash="")


def run_record(*cases: CaseRecord, **values: object) -> RunRecord:
    """Make the record of a run of these cases. ``values`` replace its other members."""
    members: dict[str, Any] = {
        "run_id": "r",
        "started": "2026-11-20T20:00:00+00:00",
        "duration_s": 1.0,
        "harness": "0",
        "host": HOST,
        "kernel": KERNEL,
        "machine": "intel-iommu",
    }
    return RunRecord(**{**members, **values, "summary": summarise(cases), "cases": list(cases)})

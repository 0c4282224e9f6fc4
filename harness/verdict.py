# SPDX-License-Identifier: GPL-2.0-only
"""The words in which a run is judged, and the run record (``report.json``). docs/design.md explains each verdict."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "vfio-harness/report/1"


class Verdict(StrEnum):
    """What a case ends with; only FAIL, SPLAT, HANG and CRASH blame the kernel."""

    PASS = "PASS"
    FAIL = "FAIL"
    SPLAT = "SPLAT"
    HANG = "HANG"
    CRASH = "CRASH"
    KNOWN = "KNOWN"
    FIXED = "FIXED"
    SKIP = "SKIP"
    ERROR = "ERROR"


KERNEL_AT_FAULT = frozenset({Verdict.FAIL, Verdict.SPLAT, Verdict.HANG, Verdict.CRASH})
NEEDS_FRESH_MACHINE = frozenset({Verdict.SPLAT, Verdict.HANG, Verdict.CRASH, Verdict.ERROR})

Source = Literal["host", "qmp", "trace", "console", "guest"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(_Record):
    """One observation. ``t``: seconds since the case began, on the host's monotonic clock."""

    t: float
    source: Source
    text: str


class CaseRecord(_Record):
    """One case's verdict with its evidence; ``duration_s`` covers set-up, call and teardown; ``seed``: of its dice, if
    it throws any; ``ran_in``: what its machine wrote is in this directory of the run's."""

    id: str
    area: str
    title: str
    importer: str | None = None
    trigger: str | None = None
    verdict: Verdict
    reason: str = ""
    duration_s: float
    known_issue: str | None = None
    seed: int | None = None
    ran_in: str | None = None
    evidence: list[Evidence] = Field(default_factory=list)


class HostRecord(_Record):
    """``accel`` is ``kvm`` or ``tcg``; ``accel_reason`` says why it was chosen."""

    qemu: str
    accel: str
    accel_reason: str
    cpu: str


class KernelRecord(_Record):
    """``origin`` is what KERNEL= named; ``features`` maps a capability to present or absent."""

    release: str
    origin: str
    config_hash: str
    patches: list[str] = Field(default_factory=list)
    features: dict[str, bool] = Field(default_factory=dict)


class RunRecord(_Record):
    """``report.json``. ``started`` is ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    run_id: str
    started: str
    duration_s: float
    harness: str
    host: HostRecord
    kernel: KernelRecord
    machine: str
    summary: dict[str, int]
    cases: list[CaseRecord]


def exit_code(verdicts: list[Verdict]) -> int:
    """0: the contract held; 1: the kernel is at fault; 3: the harness or the host failed. Of 1 and 3, 1 wins."""
    if any(v in KERNEL_AT_FAULT for v in verdicts):
        return 1
    return 3 if Verdict.ERROR in verdicts else 0

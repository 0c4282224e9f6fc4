# SPDX-License-Identifier: GPL-2.0-only
"""The deadline of a boot: a slow host gets more time, measured by the start of QEMU, and so does a busy one."""

import os

import pytest

from harness.vm.boot_steps import QEMU_ANSWERS, BootSteps


@pytest.mark.parametrize(
    ("start_s", "load", "seconds"),
    [(0.2, 0.5, 120.0), (0.2, 6.0, 360.0), (5.0, 0.5, 300.0), (5.0, 6.0, 900.0)],
    ids=["idle", "busy", "slow", "slow and busy"],
)
def test_deadline(monkeypatch: pytest.MonkeyPatch, start_s: float, load: float, seconds: float) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    steps = BootSteps()
    steps.seconds[QEMU_ANSWERS] = start_s
    assert steps.deadline(120.0) == pytest.approx(seconds)

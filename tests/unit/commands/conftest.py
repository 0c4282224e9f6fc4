# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests of nights."""

import sys
from pathlib import Path

import pytest
from stand_in import StandIn

from harness.commands import children


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, str(tmp_path / "stand_in.py")))
    monkeypatch.setattr(children, "TICK_S", 0.05)
    return StandIn(tmp_path)

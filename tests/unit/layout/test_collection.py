# SPDX-License-Identifier: GPL-2.0-only
"""The tests that ``make unit`` does not run can at least be collected: their modules and fixtures are found."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import TOP


@pytest.mark.parametrize("directory", ["tests/report", "tests/robustness"])
def test_collects(directory: str) -> None:
    pytest_program = Path(sys.executable).with_name("pytest")
    done = subprocess.run(
        [pytest_program, "--collect-only", "-q", directory], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

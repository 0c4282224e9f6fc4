# SPDX-License-Identifier: GPL-2.0-only
"""The wheel runs a case for a user without a checkout. pip fetches its dependencies, so this needs PyPI, as make deps.

tests/unit/layout/test_packaging.py tests the rest without a network and without a machine.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from commandline import CommandLine

from harness import image
from harness.paths import TOP
from harness.progress import silent

INSTALL_S = 300


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Build the wheel and let pip install it into an empty environment; return its vfio-harness."""
    directory, venv = tmp_path / "wheel", tmp_path / "venv"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=TOP, check=True, timeout=INSTALL_S)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=INSTALL_S)
    wheels = map(str, directory.glob("*.whl"))
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *wheels]
    subprocess.run(pip, check=True, timeout=INSTALL_S)
    return venv / "bin" / "vfio-harness"


def test_a_wheel_runs_a_case(harness: CommandLine, program: Path) -> None:
    """It boots the kernel and the guest image that the checkout has built: nothing is built again."""
    image.obtain(silent)
    harness.program = program
    shown = harness("run", "--show-command")
    assert shown.code == 0, shown.output
    assert "qemu-system-x86_64" in shown.output
    outcome = harness("run", "--jobs=1", "-k", "test_doorbell_reaches and iommufd and edu")
    assert outcome.code == 0, outcome.output
    assert set(outcome.verdicts().values()) == {"PASS"}
    for built in ("guest image", "compil"):
        assert built not in shown.output + outcome.output

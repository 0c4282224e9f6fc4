# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests that put the harness into trouble."""

from pathlib import Path

import pytest
from commandline import CommandLine

from harness.kernel import Kernel, KernelSpec, obtain
from harness.progress import silent


@pytest.fixture(scope="session")
def default_kernel() -> Kernel:
    """Return the kernel of a run that names none. Build it if the cache lacks it."""
    return obtain(KernelSpec(), silent)


@pytest.fixture
def harness(tmp_path: Path, default_kernel: Kernel) -> CommandLine:
    """Return the command line, with the user's cache."""
    return CommandLine(tmp_path)

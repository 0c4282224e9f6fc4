# SPDX-License-Identifier: GPL-2.0-only
"""The tests of rdma-core that the harness runs (vm-configs/rdma-core.yaml)."""

from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, load

PATH = paths.VM_CONFIGS / "rdma-core.yaml"
RUNNER = paths.GUEST_IMAGES / "rdma-core" / "run_module.py"
"""The program of the guest that runs a module."""


class RdmaCore(Model):
    """The file."""

    seconds: float = Field(gt=0)
    """How long a module may run, for a slowdown of 1."""
    modules: Annotated[tuple[str, ...], Field(min_length=1)]


def rdma_core() -> RdmaCore:
    """Read the file. Raises UsageError naming file, line and key."""
    return load(PATH, RdmaCore)

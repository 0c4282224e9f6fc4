# SPDX-License-Identifier: GPL-2.0-only
"""The tests of rdma-core that the harness runs (vm-configs/rdma-core.yaml)."""

from collections.abc import Mapping
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
    left_out: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    """By module: its tests that are skipped, and why. They judge something else than the kernel."""

    def arguments(self, module: str) -> list[str]:
        """Return the last arguments of ``RUNNER`` for a module."""
        return [module, *(f"{test}={why.strip()}" for test, why in self.left_out.get(module, {}).items())]


def rdma_core() -> RdmaCore:
    """Read the file. Raises UsageError naming file, line and key."""
    return load(PATH, RdmaCore)

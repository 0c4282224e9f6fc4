# SPDX-License-Identifier: GPL-2.0-only
"""The test importer: the module of guest-images/importer, built against the kernel under test."""

from pathlib import Path

from harness.errors import KernelBuildError
from harness.kernel.modules import oot
from harness.kernel.modules.oot import BuiltKernel
from harness.paths import GUEST_IMAGES
from harness.progress import Phase

RECIPE = GUEST_IMAGES / "importer"
NAME = "vfio_harness_importer"


def recipe_files() -> list[Path]:
    """Return the sources of the module."""
    return list(oot.sources_in(RECIPE).values())


def build(kernel: BuiltKernel | None, step: Phase) -> tuple[str, dict[str, Path]]:
    """Build the module. Returns the reason why there is none (empty if there is one), and the module by its name.

    A module that does not compile is no error: the cases that need it are skipped with the reason."""
    if kernel is None:
        return "the kernel's source is not to be found", {}
    step.progress("test importer")
    try:
        return "", {NAME: oot.build(kernel, "importer", oot.sources_in(RECIPE), step)[0]}
    except KernelBuildError as e:
        return f"the test importer does not compile with this kernel: {e}", {}

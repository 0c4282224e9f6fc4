# SPDX-License-Identifier: GPL-2.0-only
"""The test importer, a module of guest-images/importer, built against the kernel under test."""

from pathlib import Path

from harness.errors import KernelBuildError
from harness.kernel.modules import oot
from harness.kernel.modules.oot import Built
from harness.paths import GUEST_IMAGES
from harness.progress import Phase

RECIPE = GUEST_IMAGES / "importer"
NAME = "vfio_harness_importer"


def recipe_files() -> list[Path]:
    """What the module is made of."""
    return list(oot.sources_in(RECIPE).values())


def build(built: Built | None, step: Phase) -> tuple[str, dict[str, Path]]:
    """Why there is no test importer for this kernel (empty if there is one), and the module by its name.

    One that does not compile is no error: the reason is told, and the rest of a run goes on."""
    if built is None:
        return "the kernel's source is not to be found", {}
    step.progress("test importer")
    try:
        return "", {NAME: oot.build(built, "importer", oot.sources_in(RECIPE), step)[0]}
    except KernelBuildError as e:
        return f"the test importer does not compile here: {e}", {}

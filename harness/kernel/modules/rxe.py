# SPDX-License-Identifier: GPL-2.0-only
"""rxe with dma-buf MRs: the kernel's own sources plus the additions in guest-images/rxe, built as a module."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.errors import KernelBuildError
from harness.host import process
from harness.kernel.model import RxeSupport
from harness.kernel.modules import oot
from harness.kernel.modules.oot import BuiltKernel
from harness.paths import GUEST_IMAGES
from harness.progress import Phase

RECIPE = GUEST_IMAGES / "rxe"
"""``additions/`` holds files added to rxe's; each ``*.patch`` is applied (-p1, in the rxe directory), by name."""
_SOURCE = "drivers/infiniband/sw/rxe"
_OWN = "reg_user_mr_dmabuf"
"""The ib_device operation of an rxe that supports dma-buf MRs itself."""


def recipe_files() -> list[Path]:
    """Return the sources of the module besides the kernel's."""
    return [*sorted((RECIPE / "additions").glob("*.[ch]")), *sorted(RECIPE.glob("*.patch"))]


def build(kernel: BuiltKernel | None, config: Mapping[str, str], step: Phase) -> tuple[RxeSupport, Path | None]:
    """Build rxe with dma-buf MRs. Returns how this kernel supports them, and the rdma_rxe.ko that replaces its own.

    Additions that do not apply or compile are no error: the cases that need them are skipped with the reason."""
    if kernel is None or not (kernel.source / _SOURCE).is_dir() or "RDMA_RXE" not in config:
        reason = f"the kernel's {_SOURCE} is not to be found" if "RDMA_RXE" in config else "CONFIG_RDMA_RXE is not set"
        return RxeSupport("absent", reason), None
    sources = oot.sources_in(kernel.source / _SOURCE)
    if any(_OWN in path.read_text(errors="replace") for path in sources.values()):
        return RxeSupport("mainline"), None
    if config["RDMA_RXE"] != "m":
        return RxeSupport("absent", "CONFIG_RDMA_RXE=y: as =m, it can be replaced by one with dma-buf MRs"), None
    step.progress("rxe with dma-buf MRs")
    kernel.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kernel.work) as tmp:
        copy = Path(tmp)
        for path in [*sources.values(), *(RECIPE / "additions").glob("*.[ch]")]:
            shutil.copyfile(path, copy / path.name)
        if reason := _patch(copy):
            return RxeSupport("absent", reason), None
        return _compile(kernel, copy, step)


def _compile(kernel: BuiltKernel, copy: Path, step: Phase) -> tuple[RxeSupport, Path | None]:
    try:
        return RxeSupport("additions"), oot.build(kernel, "rxe", oot.sources_in(copy), step)[0]
    except KernelBuildError as e:
        return RxeSupport("absent", f"the harness's additions do not compile with this kernel: {e}"), None


def _patch(directory: Path) -> str:
    """Apply the patches. Returns the reason why one does not apply, or an empty string."""
    for patch in sorted(RECIPE.glob("*.patch")):
        args: list[str | Path] = [
            "patch",
            "-p1",
            "--forward",
            "--fuzz=3",
            "--no-backup-if-mismatch",
            "--reject-file=-",
            "-i",
            patch,
        ]
        lines: list[str] = []
        if process.run(args, cwd=directory, on_line=lines.append):
            process.check(["patch", "--version"], cwd=directory)  # a missing patch(1) is the host's fault
            failed = next((line for line in lines if "FAILED" in line or "can't find" in line), lines[-1])
            return f"{patch.name} does not apply to this kernel's rxe: {failed}"
    return ""

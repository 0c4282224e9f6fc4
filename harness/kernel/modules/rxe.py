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
from harness.kernel.modules.oot import Built
from harness.paths import GUEST_IMAGES
from harness.progress import Phase

RECIPE = GUEST_IMAGES / "rxe"
"""``additions/`` are files put beside rxe's, ``*.patch`` are applied (-p1, in the rxe directory) in order of name."""
_SOURCE = "drivers/infiniband/sw/rxe"
_OWN = "reg_user_mr_dmabuf"
"""The ib_device operation an rxe has that brings dma-buf MRs itself."""


def recipe_files() -> list[Path]:
    """What the module is made of besides the kernel's sources."""
    return [*sorted((RECIPE / "additions").glob("*.[ch]")), *sorted(RECIPE.glob("*.patch"))]


def build(built: Built | None, config: Mapping[str, str], step: Phase) -> tuple[RxeSupport, Path | None]:
    """How this kernel's rxe comes to dma-buf MRs, and the rdma_rxe.ko to use instead of its own, if any.

    Additions that do not apply or compile are no error: the reason is told, and the rest of a run goes on."""
    if built is None or not (built.source / _SOURCE).is_dir() or "RDMA_RXE" not in config:
        lacks = f"the kernel's {_SOURCE} is not to be found" if "RDMA_RXE" in config else "CONFIG_RDMA_RXE is not set"
        return RxeSupport("absent", lacks), None
    sources = oot.sources_in(built.source / _SOURCE)
    if any(_OWN in path.read_text(errors="replace") for path in sources.values()):
        return RxeSupport("mainline"), None
    if config["RDMA_RXE"] != "m":
        return RxeSupport("absent", "CONFIG_RDMA_RXE=y: as =m, it can be replaced by one with dma-buf MRs"), None
    step.progress("rxe with dma-buf MRs")
    built.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.work) as tmp:
        copy = Path(tmp)
        for path in [*sources.values(), *(RECIPE / "additions").glob("*.[ch]")]:
            shutil.copyfile(path, copy / path.name)
        if reason := _patch(copy):
            return RxeSupport("absent", reason), None
        return _compile(built, copy, step)


def _compile(built: Built, copy: Path, step: Phase) -> tuple[RxeSupport, Path | None]:
    try:
        return RxeSupport("additions"), oot.build(built, "rxe", oot.sources_in(copy), step)[0]
    except KernelBuildError as e:
        return RxeSupport("absent", f"our additions do not compile with this kernel: {e}"), None


def _patch(directory: Path) -> str:
    """Apply the patches; the reason why they do not apply, or nothing."""
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
            process.check(["patch", "--version"], cwd=directory)  # not there: that is no fault of the kernel's
            failed = next((line for line in lines if "FAILED" in line or "can't find" in line), lines[-1])
            return f"{patch.name} does not apply to this kernel's rxe: {failed}"
    return ""

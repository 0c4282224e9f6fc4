# SPDX-License-Identifier: GPL-2.0-only
"""The kernel under test as the run record describes it; its configuration and build log go into the run's directory."""

import shutil
from dataclasses import asdict
from pathlib import Path

from harness.config import arch_of
from harness.errors import HarnessError
from harness.kernel import Kernel
from harness.verdict import BuildRecord, GitRecord, KernelRecord, PatchRecord

CONFIG = "kernel.config"
LOG = "kernel-build.log"


def brief_record(kernel: Kernel) -> KernelRecord:
    """Name the kernel, in the record of a command that makes several runs. Each run's own record describes it."""
    return KernelRecord(
        release=kernel.release, origin=kernel.origin, config_hash=kernel.config_hash, patches=list(kernel.patches)
    )


def kernel_record(kernel: Kernel, directory: Path) -> KernelRecord:
    """Describe the kernel, and copy its configuration and its build log to ``directory``.

    Raises HarnessError where the host's disk refuses a copy."""
    return KernelRecord(
        release=kernel.release,
        origin=kernel.origin,
        config_hash=kernel.config_hash,
        patches=list(kernel.patches),
        features=dict(kernel.features),
        git=GitRecord(**asdict(kernel.git)) if kernel.git else None,
        build=_build_record(kernel, directory),
        series=[PatchRecord(**asdict(patch)) for patch in kernel.series],
    )


def _build_record(kernel: Kernel, directory: Path) -> BuildRecord | None:
    if kernel.build is None:
        return None
    return BuildRecord(
        architecture=arch_of(kernel.config),
        compiler=kernel.config.get("CC_VERSION_TEXT", "").strip('"'),
        started=kernel.build.started,
        duration_s=kernel.build.duration_s,
        log=_copy(kernel.build.log, directory / LOG) if kernel.build.log else None,
        config=_copy(kernel.build.config, directory / CONFIG),
    )


def _copy(file: Path, copy: Path) -> str:
    try:
        shutil.copyfile(file, copy)
    except OSError as error:
        raise HarnessError(f"{copy}: {error.strerror}", hint="make room, or set VFIO_HARNESS_RESULTS") from None
    return copy.name

# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests (tools/testing/selftests), built from the source of the kernel under test."""

from collections.abc import Sequence
from pathlib import Path

from harness.config import arch_of, architecture
from harness.errors import KernelBuildError
from harness.host.packages import require_present
from harness.kernel.build import kbuild, tree
from harness.kernel.model import Kernel
from harness.kernel.modules.oot import sync
from harness.paths import GUEST_IMAGES
from harness.progress import Phase

MISSING = GUEST_IMAGES / "selftests" / "missing.h"
"""Included first in each file: what the tests of some kernels call and do not define."""
STATIC = "-static -s"


def build(kernel: Kernel, directory: str, needs: Sequence[str], step: Phase) -> tuple[str, Path]:
    """Build the programs of ``directory`` of the kernel's source, as static programs, outside of the source.

    ``needs``: files of packages.txt that they need. Returns the reason why they cannot be built (empty if they are),
    and the directory that holds them. Raises MissingPrerequisite if the host lacks one of ``needs``.
    """
    source = kernel.source_dir
    if source is None or not (source / directory / "Makefile").is_file():
        return f"the kernel's {directory} is not to be found", Path()
    require_present(needs, f"the kernel's {directory} needs")
    work = tree.modules_dir_of(kernel.build_dir) / Path(directory).name
    headers, own, programs = work / "headers", work / "own", work / "output"
    cross = architecture(arch_of(kernel.config)).make_variables
    with tree.lock_build(kernel.build_dir, step):
        for each in (headers, programs):
            each.mkdir(parents=True, exist_ok=True)
        sync({MISSING.name: MISSING}, own)  # make remembers where it was, and the harness may move
        try:
            args = [f"O={headers}", *cross, "headers"]
            kbuild.make(args, source=source, what=headers, log=work / "headers.log", step=step)
            settings = {
                "OUTPUT": programs,
                "KHDR_INCLUDES": f"-isystem {headers}/usr/include",
                "EXTRA_CFLAGS": f"{STATIC} -include {own / MISSING.name}",
            }
            words = [f"{name}={value}" for name, value in settings.items()]
            args = ["-C", str(source / directory), *cross, *words, "all"]
            kbuild.make(args, source=source, what=programs, log=work / "programs.log", step=step)
        except KernelBuildError as error:
            return f"the kernel's {directory} does not compile: {error}", programs
    return "", programs

# SPDX-License-Identifier: GPL-2.0-only
"""Check what the host needs to run a machine, for ``vfio-harness doctor``."""

from collections.abc import Iterator

from harness.config import DEFAULT_ARCH, ArchName
from harness.errors import HarnessError
from harness.progress import Emit, silent
from harness.vm.qemu import Qemu


def prerequisites(
    qemu: str | None = None, emit: Emit = silent, arch: ArchName = DEFAULT_ARCH
) -> Iterator[tuple[str, HarnessError | None]]:
    """Yield each prerequisite with None, or with an error whose hint fixes it.

    ``qemu``: a path or ``debian:VERSION``, which is fetched now. ``arch``: the machine's.
    """
    try:
        found = Qemu.probe(qemu, emit, arch)
        yield f"QEMU {'.'.join(map(str, found.version))} ({found.path})", None
    except HarnessError as error:
        yield "QEMU", error

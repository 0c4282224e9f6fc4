# SPDX-License-Identifier: GPL-2.0-only
"""Data about the kernel under test: its specification, features and changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.config import DEFAULT_ARCH, ArchName

Flavour = Literal["release", "debug", "coverage", "selftest"]


def has_gcov(config: Mapping[str, str]) -> bool:
    """Return whether a kernel with these options counts the lines that run (FLAVOUR=coverage)."""
    return "GCOV_KERNEL" in config


class SourceChange(Protocol):
    """A change to a kernel's source: a series of patches, or a bug put back by a mutation."""

    @property
    def name(self) -> str:
        """Name the change in one line: a mutation's id, a series' file name."""

    @property
    def patches(self) -> Sequence[str]:
        """List the entries of the run record's ``kernel.patches``: a mutation's id, the subjects of a series."""

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the new content of each changed file, by path relative to ``source``; None removes the file.

        Leaves ``source`` alone. Raises KernelError or HarnessError if the change does not fit this source."""


@dataclass(frozen=True)
class KernelSpec:
    """A request for a kernel."""

    kernel: str | None = None
    """KERNEL=: None for the pinned default; ``ACCEPTED`` of harness/kernel/source/resolve.py lists the forms."""
    flavour: Flavour = "release"
    """FLAVOUR=; without effect on a build directory, which is used as is."""
    change: SourceChange | None = None
    """SERIES= and MUTATION=, applied to a copy of the source."""
    workspace: str = ""
    """Names a workspace for changed kernels that only this caller uses; empty: the one that all runs share."""
    arch: ArchName = DEFAULT_ARCH
    """The architecture; a build directory must be of it."""


@dataclass(frozen=True)
class RxeSupport:
    """How the kernel's rxe supports dma-buf MRs."""

    how: Literal["mainline", "additions", "absent"]
    """By its own code, by the additions of guest-images/rxe, or not at all."""
    reason: str = ""
    """Why it is absent."""


@dataclass(frozen=True)
class DmabufUapi:
    """VFIO_DEVICE_FEATURE_DMA_BUF as the kernel's own include/uapi/linux/vfio.h defines it."""

    number: int
    """The feature's index in VFIO_DEVICE_FEATURE."""
    layout: Literal["ranges", "single"]
    """``ranges`` in 6.19 and later; ``single``, one offset and length, in the series of 2022."""
    fields: tuple[tuple[str, str], ...]
    """The payload's members in order, as (C type, name)."""


@dataclass(frozen=True)
class GitCommit:
    """The commit of a source; the fields have their names in ``GitRecord``."""

    url: str
    ref: str
    commit: str
    describe: str = ""
    dirty: bool = False


@dataclass(frozen=True)
class SentPatch:
    """One patch of a series; the fields have their names in ``PatchRecord``."""

    subject: str
    message_id: str
    sha256: str


@dataclass(frozen=True)
class Build:
    """The last build of a kernel that changed anything. Its files are copies, which later builds leave alone."""

    config: Path
    """The ``.config``."""
    started: str | None = None
    """ISO 8601, UTC; None if the harness did not build it."""
    duration_s: float | None = None
    """In seconds; None if the harness did not build it."""
    log: Path | None = None
    """make's output; None if the harness did not build it."""


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot."""

    image: Path
    """A copy of what QEMU boots (bzImage, Image) that later builds leave alone."""
    modules_image: Path
    """An erofs image of ``lib/modules/<release>``, which later builds leave alone too.

    ``load-order`` at its top lists one module per line, relative to the image's root, dependencies first."""
    release: str
    """As ``uname -r`` prints it."""
    origin: str
    """Where the kernel comes from, for messages: KERNEL=, a package's version or a commit."""
    config: Mapping[str, str]
    """The options that are on, without CONFIG_, with their values as in .config."""
    config_hash: str
    """16 hex digits over ``config``."""
    patches: tuple[str, ...]
    """The patches of ``KernelSpec.change``."""
    features: Mapping[str, bool]
    """Each capability that a case may need, present or absent."""
    source_dir: Path | None
    """The source that the kernel was built from; None if it cannot be found."""
    build_dir: Path
    """The build directory."""
    rxe: RxeSupport
    """How rxe supports dma-buf MRs."""
    importer_absent: str
    """Why there is no test importer for this kernel; empty if its module is in ``modules_image``."""
    uapi: DmabufUapi | None
    """The export's uAPI; None if the source cannot be found or lacks the feature."""
    git: GitCommit | None = None
    """The commit of the source; None if it is not from git."""
    build: Build | None = None
    """How it was built."""
    series: tuple[SentPatch, ...] = ()
    """The patches of the series in ``KernelSpec.change``."""
    base_dir: Path | None = None
    """The source without the change in ``KernelSpec.change``; None without a change."""
    source_lock: object = None
    """Keeps other processes from changing ``source_dir`` while this object exists, if it is a checkout of the cache."""

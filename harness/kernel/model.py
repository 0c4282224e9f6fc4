# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel under test is, to the rest of the harness."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.kernel.source.change import SourceChange

Flavour = Literal["release", "debug"]


@dataclass(frozen=True)
class KernelSpec:
    """``kernel`` as KERNEL= takes it: None for the pinned default, ``debian:VERSION``, a source tree or a build
    directory. ``flavour`` has no say over a build directory, which is used as it is. ``change`` is made to a copy of
    the source."""

    kernel: str | None = None
    flavour: Flavour = "release"
    change: SourceChange | None = None


@dataclass(frozen=True)
class RxeSupport:
    """How rxe comes to dma-buf MRs: its own (``mainline``), by our additions, or not at all, with the reason."""

    how: Literal["mainline", "additions", "absent"]
    reason: str = ""


@dataclass(frozen=True)
class DmabufUapi:
    """VFIO_DEVICE_FEATURE_DMA_BUF as the kernel's own include/uapi/linux/vfio.h has it.

    ``layout`` is ``ranges`` (6.19 and later) or ``single`` (the series of 2022: one offset and length).
    ``fields`` are the payload's members in order, as (C type, name).
    """

    number: int
    layout: Literal["ranges", "single"]
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot.

    ``image``: bzImage. ``modules_image``: erofs of ``lib/modules/<release>`` with, at its top, ``load-order``: one
    module per line, relative to the image's root, dependencies first. Both are copies that later builds leave alone.
    ``config`` maps names without CONFIG_ to values as .config has them; options that are off are not in it.
    ``importer_absent``: why there is no test importer for it; empty if its module is in ``modules_image``.
    ``uapi`` is None where the kernel's source cannot be found or has no such feature.
    """

    image: Path
    modules_image: Path
    release: str
    origin: str
    config: Mapping[str, str]
    config_hash: str
    patches: tuple[str, ...]
    features: Mapping[str, bool]
    source_dir: Path | None
    build_dir: Path
    rxe: RxeSupport
    importer_absent: str
    uapi: DmabufUapi | None

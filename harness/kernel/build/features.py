# SPDX-License-Identifier: GPL-2.0-only
"""Detect a kernel's features from its configuration and its source, before it boots."""

from collections.abc import Mapping
from pathlib import Path

from harness.errors import KernelLacksFeature
from harness.kernel.build.kconfig import requirements
from harness.kernel.model import DmabufUapi, Kernel, RxeSupport
from harness.kernel.source.uapi import HEADER

_EXPORT_OPTIONS = ("VFIO_PCI_CORE", "PCI_P2PDMA", "DMA_SHARED_BUFFER")


def has_export(config: Mapping[str, str], uapi: DmabufUapi | None) -> bool:
    """Check whether vfio-pci exports dma-bufs.

    VFIO_PCI_DMABUF follows from its dependencies (drivers/vfio/pci/Kconfig, 6.19). The earlier series lack this
    option; they have the uAPI and the same dependencies."""
    return "VFIO_PCI_DMABUF" in config or (uapi is not None and all(option in config for option in _EXPORT_OPTIONS))


def require_export(config: Mapping[str, str], uapi: DmabufUapi | None, origin: str) -> None:
    """Raise KernelLacksFeature for a kernel without the feature under test."""
    if not has_export(config, uapi):
        raise KernelLacksFeature(
            f"{origin} has no vfio-pci dma-buf export: {HEADER} has no VFIO_DEVICE_FEATURE_DMA_BUF, or "
            "CONFIG_VFIO_PCI_DMABUF is off",
            origin=origin,
            hint="Linux has it since 6.19; it needs CONFIG_VFIO_PCI, CONFIG_PCI_P2PDMA and CONFIG_DMA_SHARED_BUFFER",
        )


def detect(
    config: Mapping[str, str],
    source: Path | None,
    uapi: DmabufUapi | None,
    rxe: RxeSupport,
    importer_absent: str,
    *,
    release: str = "",
) -> dict[str, bool]:
    """Return each feature, present or absent. ``release``: of the kernel, which counts if it has no ``source``.

    The features are ``dmabuf_export``, ``rxe`` (dma-buf MRs), ``test_importer``, and those of requirements.yaml."""
    listed = {
        name: feature.in_config(config) and (feature.in_source(source) if source else feature.in_release(release))
        for name, feature in requirements().features.items()
    }
    return {
        "dmabuf_export": has_export(config, uapi),
        "rxe": rxe.how != "absent",
        "test_importer": not importer_absent,
        **listed,
    }


def lacking(kernel: Kernel, capability: str) -> str:
    """Return the reason for skipping the cases that need ``capability`` on a kernel without it."""
    known = {"rxe": f"its rxe has no dma-buf MRs: {kernel.rxe.reason}", "test_importer": kernel.importer_absent}
    if capability in known:
        return known[capability]
    feature = requirements().features[capability]
    return feature.lacking or " or ".join(f"CONFIG_{option}" for option in feature.all + feature.any) + " is not set"

# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel can do, read from its configuration and its source, before it has booted."""

from collections.abc import Mapping
from pathlib import Path

from harness.errors import KernelLacksFeature
from harness.kernel.build.kconfig import KernelFeature, requirements
from harness.kernel.model import DmabufUapi, Kernel, RxeSupport
from harness.kernel.uapi import HEADER


def has_export(config: Mapping[str, str], uapi: DmabufUapi | None) -> bool:
    """Whether vfio-pci exports dma-bufs. VFIO_PCI_DMABUF follows from its dependencies (drivers/vfio/pci/Kconfig,
    6.19); the earlier series have no such option, but the uAPI and the same dependencies."""
    parts = ("VFIO_PCI_CORE", "PCI_P2PDMA", "DMA_SHARED_BUFFER")
    return "VFIO_PCI_DMABUF" in config or (uapi is not None and all(option in config for option in parts))


def require_export(config: Mapping[str, str], uapi: DmabufUapi | None, origin: str) -> None:
    """Raises KernelLacksFeature for a kernel without the feature under test."""
    if not has_export(config, uapi):
        raise KernelLacksFeature(
            f"{origin} has no vfio-pci dma-buf export: no VFIO_DEVICE_FEATURE_DMA_BUF in {HEADER}, or no "
            "CONFIG_VFIO_PCI_DMABUF",
            origin=origin,
            hint="it is in Linux since 6.19, and needs CONFIG_VFIO_PCI, CONFIG_PCI_P2PDMA and CONFIG_DMA_SHARED_BUFFER",
        )


def detect(
    config: Mapping[str, str], source: Path | None, uapi: DmabufUapi | None, rxe: RxeSupport, importer_absent: str
) -> dict[str, bool]:
    """Each capability of requirements.yaml, ``dmabuf_export``, ``rxe`` (dma-buf MRs) and ``test_importer``, present or
    absent."""
    listed = {
        name: _set(config, feature) and (source is None or feature.in_source(source))
        for name, feature in requirements().features.items()
    }
    return {
        "dmabuf_export": has_export(config, uapi),
        "rxe": rxe.how != "absent",
        "test_importer": not importer_absent,
        **listed,
    }


def lacking(kernel: Kernel, capability: str) -> str:
    """Why cases that need the capability cannot be shown on a kernel without it."""
    known = {"rxe": f"its rxe has no dma-buf MRs: {kernel.rxe.reason}", "test_importer": kernel.importer_absent}
    if capability in known:
        return known[capability]
    feature = requirements().features[capability]
    return feature.lacking or " or ".join(f"CONFIG_{option}" for option in feature.all + feature.any) + " is not set"


def _set(config: Mapping[str, str], feature: KernelFeature) -> bool:
    return config.keys() >= set(feature.all) and (not feature.any or not config.keys().isdisjoint(feature.any))

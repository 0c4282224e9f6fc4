# SPDX-License-Identifier: GPL-2.0-only
"""vfio-harness: validates Linux's vfio-pci dma-buf export in QEMU guests."""

__version__ = "0.1.0"

# SPDX-License-Identifier: GPL-2.0-only
"""Independent observers on the host side: doorbells, IOMMU faults, splats, liveness."""

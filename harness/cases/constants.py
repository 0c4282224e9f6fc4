# SPDX-License-Identifier: GPL-2.0-only
"""Numbers and names that several cases share."""

PAGE = 0x1000
"""Bytes of a page: of x86-64, and of the kernels of guest-images/kernel/arm64.config."""
U64 = 1 << 64
"""One more than the largest ``u64``."""
SCATTERLIST = 32
"""Bytes of a ``struct scatterlist`` on x86-64."""
PCI_D0, PCI_D3hot = 0, 3
"""Power states as PMCSR encodes them (include/linux/pci.h)."""
UNDER_TEST = "nvme0"
"""The device under test, as machine descriptions name it."""
CMBS_WITHOUT_ONE_AREA = 70
"""Exports of a whole CMB (16 MiB) in one buffer, for a device with a DMA mask of 32 bits. The host bridge's windows
leave no gap of 1.1 GiB below 4 GiB for one IOVA area, but gaps for 80 areas of 16 MiB."""

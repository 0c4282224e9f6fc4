# SPDX-License-Identifier: GPL-2.0-only
"""Read the number and layout of the dma-buf export from include/uapi/linux/vfio.h: series differ in both."""

import re
from pathlib import Path
from typing import Literal

from harness.kernel.model import DmabufUapi

HEADER = "include/uapi/linux/vfio.h"
_NUMBER = re.compile(r"^#define\s+VFIO_DEVICE_FEATURE_DMA_BUF\s+(\d+)", re.M)
_STRUCT = re.compile(r"^struct\s+vfio_device_feature_dma_buf\s*\{(.*?)^\}", re.M | re.S)
_MEMBER = re.compile(r"^\s*((?:struct\s+)?\w+)\s+(\w+)\s*(?:\[.*\].*)?;", re.M)


def parse_export(header: str) -> DmabufUapi | None:
    """Return the export's uAPI from the text of vfio.h, or None if it has none."""
    number, struct = _NUMBER.search(header), _STRUCT.search(header)
    if not number or not struct:
        return None
    fields = tuple((member[1], member[2]) for member in _MEMBER.finditer(struct[1]))
    layout: Literal["ranges", "single"] = "ranges" if any(name == "nr_ranges" for _, name in fields) else "single"
    return DmabufUapi(int(number[1]), layout, fields)


def read_export(source: Path | None) -> DmabufUapi | None:
    """Return the export's uAPI from a kernel's source, or None without a source or without the feature."""
    if source is None or not (source / HEADER).is_file():
        return None
    return parse_export((source / HEADER).read_text(errors="replace"))

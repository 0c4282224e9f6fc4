# SPDX-License-Identifier: GPL-2.0-only
"""Reads the number and layout of the dma-buf export from include/uapi/linux/vfio.h: they differ between series."""

import re
from pathlib import Path
from typing import Literal

from harness.kernel.model import DmabufUapi

HEADER = "include/uapi/linux/vfio.h"
_NUMBER = re.compile(r"^#define\s+VFIO_DEVICE_FEATURE_DMA_BUF\s+(\d+)", re.M)
_STRUCT = re.compile(r"^struct\s+vfio_device_feature_dma_buf\s*\{(.*?)^\}", re.M | re.S)
_MEMBER = re.compile(r"^\s*((?:struct\s+)?\w+)\s+(\w+)\s*(?:\[.*\].*)?;", re.M)


def parse(header: str) -> DmabufUapi | None:
    """The export's uAPI in the text of vfio.h, or None if there is none."""
    number, struct = _NUMBER.search(header), _STRUCT.search(header)
    if not number or not struct:
        return None
    fields = tuple((m[1], m[2]) for m in _MEMBER.finditer(struct[1]))
    layout: Literal["ranges", "single"] = "ranges" if any(name == "nr_ranges" for _, name in fields) else "single"
    return DmabufUapi(int(number[1]), layout, fields)


def read(source_dir: Path | None) -> DmabufUapi | None:
    """As ``parse``, of a kernel's source; None also where there is no source."""
    if source_dir is None or not (source_dir / HEADER).is_file():
        return None
    return parse((source_dir / HEADER).read_text(errors="replace"))

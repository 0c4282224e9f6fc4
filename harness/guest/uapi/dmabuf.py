# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/dma-buf.h"""

from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, iow


class Sync(Struct):
    """``dma_buf_sync``"""

    _fields_: ClassVar = [("flags", u64)]


DMA_BUF_IOCTL_SYNC = Ioctl("DMA_BUF_IOCTL_SYNC", iow("b", 0, sizeof(Sync)))

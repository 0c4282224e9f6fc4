# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/dma-buf.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, iow, iowr


class Sync(Struct):
    """``dma_buf_sync``"""

    _fields_: ClassVar = [("flags", u64)]


class SyncFile(Struct):
    """``dma_buf_export_sync_file`` and ``dma_buf_import_sync_file``"""

    _fields_: ClassVar = [("flags", u32), ("fd", s32)]


DMA_BUF_IOCTL_SYNC = Ioctl("DMA_BUF_IOCTL_SYNC", iow("b", 0, sizeof(Sync)))
DMA_BUF_SET_NAME_B = Ioctl("DMA_BUF_SET_NAME", iow("b", 1, sizeof(u64)))
DMA_BUF_IOCTL_EXPORT_SYNC_FILE = Ioctl("DMA_BUF_IOCTL_EXPORT_SYNC_FILE", iowr("b", 2, sizeof(SyncFile)))
DMA_BUF_IOCTL_IMPORT_SYNC_FILE = Ioctl("DMA_BUF_IOCTL_IMPORT_SYNC_FILE", iow("b", 3, sizeof(SyncFile)))

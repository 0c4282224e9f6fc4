# SPDX-License-Identifier: GPL-2.0-only
"""drivers/dma-buf/sw_sync.c, which has no header"""

from ctypes import c_char as char
from ctypes import c_int32 as s32
from ctypes import c_uint32 as u32
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, iow, iowr


class CreateFence(Struct):
    """``sw_sync_create_fence_data``"""

    _fields_: ClassVar = [("value", u32), ("name", char * 32), ("fence", s32)]


SW_SYNC_IOC_CREATE_FENCE = Ioctl("SW_SYNC_IOC_CREATE_FENCE", iowr("W", 0, sizeof(CreateFence)))
SW_SYNC_IOC_INC = Ioctl("SW_SYNC_IOC_INC", iow("W", 1, sizeof(u32)))

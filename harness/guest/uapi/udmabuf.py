# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/udmabuf.h"""

from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, iow

UDMABUF_FLAGS_CLOEXEC = 1


class Create(Struct):
    """``udmabuf_create``"""

    _fields_: ClassVar = [("memfd", u32), ("flags", u32), ("offset", u64), ("size", u64)]


UDMABUF_CREATE = Ioctl("UDMABUF_CREATE", iow("u", 0x42, sizeof(Create)))

# SPDX-License-Identifier: GPL-2.0-only
"""guest-images/importer/uapi.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, io, iow, iowr

STATIC, PEER2PEER, CALLBACK, REMAP, NOT_PCI, RDMA = 1, 2, 4, 8, 16, 32
PATIENCE_MS = 20000
ENTRY_PAGE, ENTRY_LAST = 1, 2
NOTIFIED, MAPPED, UNMAPPED = 1, 2, 3
EVENTS = 256
EDU_LOAD, EDU_STORE, EDU_WRITE, EDU_READ = range(4)
EDU_ROOM = 4088

# include/linux/dma-direction.h, include/linux/dma-resv.h
DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE = range(3)
USAGE_KERNEL, USAGE_WRITE, USAGE_READ, USAGE_BOOKKEEP = range(4)


class Attach(Struct):
    _fields_: ClassVar = [("fd", s32), ("device", u32), ("flags", u32), ("delay_ms", u32)]


class Entry(Struct):
    _fields_: ClassVar = [
        ("address", u64), ("length", u64), ("cpu_offset", u32), ("cpu_length", u32), ("flags", u32), ("_reserved", u32),
    ]  # fmt: skip


class Table(Struct):
    _fields_: ClassVar = [("entries", u64), ("room", u32), ("nents", u32), ("orig_nents", u32), ("_reserved", u32)]


class Event(Struct):
    _fields_: ClassVar = [("time_ns", u64), ("kind", u32), ("result", s32), ("task", u32), ("_reserved", u32)]


class Log(Struct):
    _fields_: ClassVar = [("events", u64), ("room", u32), ("happened", u32), ("notified", u32), ("mapped", u32)]


class Edu(Struct):
    _fields_: ClassVar = [("device", u32), ("op", u32), ("offset", u32), ("length", u32), ("data", u64)]


# The errors of the first ones are those of the functions that they are named after.
ATTACH = Ioctl("dma_buf_dynamic_attach", iow("V", 0, sizeof(Attach)))
DETACH = Ioctl("dma_buf_detach", io("V", 1))
MAP = Ioctl("dma_buf_map_attachment", io("V", 2))
UNMAP = Ioctl("dma_buf_unmap_attachment", io("V", 3))
PIN = Ioctl("dma_buf_pin", io("V", 4))
UNPIN = Ioctl("dma_buf_unpin", io("V", 5))
RELEASE = Ioctl("IMPORTER_RELEASE", io("V", 6))
TABLE = Ioctl("IMPORTER_TABLE", iowr("V", 7, sizeof(Table)))
LOG = Ioctl("IMPORTER_LOG", iowr("V", 8, sizeof(Log)))
FENCE = Ioctl("IMPORTER_FENCE", io("V", 9))
SIGNAL = Ioctl("IMPORTER_SIGNAL", io("V", 10))
EDU = Ioctl("IMPORTER_EDU", iow("V", 11, sizeof(Edu)))

# SPDX-License-Identifier: GPL-2.0-only
"""guest-images/importer/uapi.h"""

from ctypes import c_int32 as s32
from ctypes import c_int64 as s64
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, io, ior, iow, iowr

IMPORTER_STATIC = 0x01
IMPORTER_PEER2PEER = 0x02
IMPORTER_CALLBACK = 0x04
IMPORTER_REMAP = 0x08
IMPORTER_NOT_PCI = 0x10
IMPORTER_UNLOCKED = 0x20
IMPORTER_UMEM_REVOCABLE, IMPORTER_UMEM_PINNED, IMPORTER_UMEM_DYNAMIC = range(3)
IMPORTER_MAX_DELAY_MS = 20000
IMPORTER_ENTRY_PAGE = 0x01
IMPORTER_ENTRY_LAST = 0x02
IMPORTER_NOTIFIED = 1
IMPORTER_MAPPED = 2
IMPORTER_UNMAPPED = 3
IMPORTER_EVENTS = 256
IMPORTER_EDU_LOAD = 0
IMPORTER_EDU_STORE = 1
IMPORTER_EDU_WRITE = 2
IMPORTER_EDU_READ = 3
IMPORTER_EDU_SIZE = 4088
IMPORTER_COUNTS_IOVAS = 0x01
IMPORTER_MAX_PAUSE_MS = 2000
IMPORTER_PAUSE_ATTACH, IMPORTER_PAUSE_MAP, IMPORTER_PAUSE_EXPORT, IMPORTER_PAUSE_CLOSE = range(4)
IMPORTER_PAUSE_INSERT, IMPORTER_PAUSE_FILL, IMPORTER_PAUSE_PAGES = range(4, 7)
IMPORTER_PAUSE_FPUT, IMPORTER_PAUSE_UMEM, IMPORTER_PAUSE_UNPIN = range(7, 10)
IMPORTER_PAUSE_UNLOCK, IMPORTER_PAUSE_IOVA, IMPORTER_PAUSE_TABLE, IMPORTER_PAUSE_ALIGNMENT = range(10, 14)
IMPORTER_PAUSE_ARMED, IMPORTER_PAUSE_ON, IMPORTER_PAUSE_OVER, IMPORTER_PAUSE_EXPIRED = range(4)
IMPORTER_ACCESS_MAX = 65536
IMPORTER_ACCESS_WRITE = 0x01

# include/linux/dma-direction.h
DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE = range(3)
# include/linux/dma-resv.h
DMA_RESV_USAGE_KERNEL, DMA_RESV_USAGE_WRITE, DMA_RESV_USAGE_READ, DMA_RESV_USAGE_BOOKKEEP = range(4)


class Attach(Struct):
    """``importer_attach``"""

    _fields_: ClassVar = [("fd", s32), ("device", u32), ("flags", u32), ("delay_ms", u32)]


class Umem(Struct):
    """``importer_umem``"""

    _fields_: ClassVar = [
        ("offset", u64), ("length", u64), ("fd", s32), ("device", u32),
        ("flags", u32), ("kind", u32), ("access", u32), ("_reserved", u32),
    ]  # fmt: skip


class SgEntry(Struct):
    """``importer_sg_entry``"""

    _fields_: ClassVar = [
        ("address", u64), ("length", u64), ("cpu_offset", u32), ("cpu_length", u32), ("flags", u32), ("_reserved", u32),
    ]  # fmt: skip


class SgTable(Struct):
    """``importer_sg_table``"""

    _fields_: ClassVar = [("entries", u64), ("capacity", u32), ("nents", u32), ("orig_nents", u32), ("_reserved", u32)]


class AttachmentEvent(Struct):
    """``importer_event``"""

    _fields_: ClassVar = [("time_ns", u64), ("kind", u32), ("result", s32), ("task", u32), ("_reserved", u32)]


class Log(Struct):
    """``importer_log``"""

    _fields_: ClassVar = [("events", u64), ("capacity", u32), ("event_count", u32), ("notified", u32), ("mapped", u32)]


class Wait(Struct):
    """``importer_wait``"""

    _fields_: ClassVar = [("notified", u32), ("timeout_ms", u32)]


class Edu(Struct):
    """``importer_edu``"""

    _fields_: ClassVar = [("device", u32), ("op", u32), ("offset", u32), ("length", u32), ("data", u64)]


class Counts(Struct):
    """``importer_counts``"""

    _fields_: ClassVar = [
        ("iovas", s64), ("iova_pages", s64), ("registrations", u32), ("flags", u32), ("missed", u64),
    ]  # fmt: skip


class PauseRequest(Struct):
    """``importer_pause_request``"""

    _fields_: ClassVar = [("point", u32), ("limit_ms", u32)]


class AccessRequest(Struct):
    """``importer_access_request``"""

    _fields_: ClassVar = [("fd", s32), ("ioas", u32), ("delay_ms", u32), ("_reserved", u32)]


class AccessRange(Struct):
    """``importer_access_range``"""

    _fields_: ClassVar = [("iova", u64), ("length", u64), ("data", u64), ("flags", u32), ("_reserved", u32)]


# An ioctl that wraps one function of the dma-buf core or of iommufd carries the function's name in its errors.
IMPORTER_ATTACH = Ioctl("dma_buf_dynamic_attach", iow("V", 0, sizeof(Attach)))
IMPORTER_DETACH = Ioctl("dma_buf_detach", io("V", 1))
IMPORTER_MAP = Ioctl("dma_buf_map_attachment", io("V", 2))
IMPORTER_UNMAP = Ioctl("dma_buf_unmap_attachment", io("V", 3))
IMPORTER_PIN = Ioctl("dma_buf_pin", io("V", 4))
IMPORTER_UNPIN = Ioctl("dma_buf_unpin", io("V", 5))
IMPORTER_RELEASE = Ioctl("IMPORTER_RELEASE", io("V", 6))
IMPORTER_TABLE = Ioctl("IMPORTER_TABLE", iowr("V", 7, sizeof(SgTable)))
IMPORTER_LOG = Ioctl("IMPORTER_LOG", iowr("V", 8, sizeof(Log)))
IMPORTER_FENCE = Ioctl("IMPORTER_FENCE", io("V", 9))
IMPORTER_SIGNAL = Ioctl("IMPORTER_SIGNAL", io("V", 10))
IMPORTER_EDU = Ioctl("IMPORTER_EDU", iow("V", 11, sizeof(Edu)))
IMPORTER_COUNTS = Ioctl("IMPORTER_COUNTS", ior("V", 12, sizeof(Counts)))
IMPORTER_PAUSE = Ioctl("IMPORTER_PAUSE", iow("V", 13, sizeof(PauseRequest)))
IMPORTER_PAUSE_STATE = Ioctl("IMPORTER_PAUSE_STATE", io("V", 14))
IMPORTER_RESUME = Ioctl("IMPORTER_RESUME", io("V", 15))
# The errors of IMPORTER_UMEM carry the name of the RDMA core's function, which depends on the kind.
IMPORTER_UMEM = iow("V", 16, sizeof(Umem))
IMPORTER_REVOKE = Ioctl("ib_umem_dmabuf_revoke", io("V", 17))
IMPORTER_ACCESS = Ioctl("iommufd_access_attach", iow("V", 18, sizeof(AccessRequest)))
IMPORTER_ACCESS_PIN = Ioctl("iommufd_access_pin_pages", iow("V", 19, sizeof(AccessRange)))
IMPORTER_ACCESS_UNPIN = Ioctl("iommufd_access_unpin_pages", iow("V", 20, sizeof(AccessRange)))
IMPORTER_ACCESS_RW = Ioctl("iommufd_access_rw", iow("V", 21, sizeof(AccessRange)))
IMPORTER_WAIT = Ioctl("IMPORTER_WAIT", iow("V", 22, sizeof(Wait)))

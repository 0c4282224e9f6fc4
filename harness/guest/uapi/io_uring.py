# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/io_uring.h, with the registered dma-bufs of 7.4"""

from ctypes import c_int32 as s32
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import ClassVar

from ..kernel import Struct

# include/uapi/asm-generic/unistd.h: the same on x86-64 and arm64
NR_IO_URING_SETUP, NR_IO_URING_ENTER, NR_IO_URING_REGISTER = 425, 426, 427

IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED = 4, 5
IORING_OFF_SQ_RING, IORING_OFF_CQ_RING, IORING_OFF_SQES = 0, 0x8000000, 0x10000000
IORING_ENTER_GETEVENTS = 1
IORING_REGISTER_BUFFERS2, IORING_REGISTER_BUFFERS_UPDATE = 15, 16
IORING_RSRC_REGISTER_SPARSE = 1
IORING_RSRC_UPDATE_EXTENDED = 1 << 1
IO_REGBUF_TYPE_EMPTY, IO_REGBUF_TYPE_DMABUF = 0, 2


class SqOffsets(Struct):
    """``io_sqring_offsets``: where the fields of the submission ring are in its mapping."""

    _fields_: ClassVar = [
        *((name, u32) for name in ("head", "tail", "ring_mask", "ring_entries", "flags", "dropped", "array", "_resv1")),
        ("_user_addr", u64),
    ]


class CqOffsets(Struct):
    """``io_cqring_offsets``: where the fields of the completion ring are in its mapping."""

    _fields_: ClassVar = [
        *((name, u32) for name in ("head", "tail", "ring_mask", "ring_entries", "overflow", "cqes", "flags", "_resv1")),
        ("_user_addr", u64),
    ]


class Params(Struct):
    """``io_uring_params``"""

    _fields_: ClassVar = [
        ("sq_entries", u32),
        ("cq_entries", u32),
        ("flags", u32),
        ("sq_thread_cpu", u32),
        ("sq_thread_idle", u32),
        ("features", u32),
        ("wq_fd", u32),
        ("_resv", u32 * 3),
        ("sq_off", SqOffsets),
        ("cq_off", CqOffsets),
    ]


class Sqe(Struct):
    """``io_uring_sqe`` of a read or write with a registered buffer. ``addr``: the offset in a registered dma-buf."""

    _fields_: ClassVar = [
        ("opcode", u8),
        ("flags", u8),
        ("ioprio", u16),
        ("fd", s32),
        ("off", u64),
        ("addr", u64),
        ("len", u32),
        ("rw_flags", u32),
        ("user_data", u64),
        ("buf_index", u16),
        ("personality", u16),
        ("file_index", u32),
        ("_addr3", u64 * 2),
    ]


class Cqe(Struct):
    """``io_uring_cqe``. ``res``: the bytes moved, or ``-errno``."""

    _fields_: ClassVar = [("user_data", u64), ("res", s32), ("flags", u32)]


class RsrcRegister(Struct):
    """``io_uring_rsrc_register``"""

    _fields_: ClassVar = [("nr", u32), ("flags", u32), ("_resv2", u64), ("data", u64), ("tags", u64)]


class RsrcUpdate2(Struct):
    """``io_uring_rsrc_update2``"""

    _fields_: ClassVar = [
        *(("offset", u32), ("flags", u32), ("data", u64), ("tags", u64), ("nr", u32), ("_resv2", u32)),
    ]


class RegbufDesc(Struct):
    """``io_uring_regbuf_desc``. ``size`` and ``uaddr`` are 0 for a dma-buf."""

    _fields_: ClassVar = [
        *(("type", u32), ("flags", u32), ("size", u64), ("uaddr", u64), ("dmabuf_fd", s32), ("target_fd", s32)),
        ("_resv", u64 * 6),
    ]

# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/iommufd.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import ClassVar

from ..kernel import Ioctl, Struct, io

MAP_FIXED_IOVA = 1
MAP_WRITEABLE = 2
MAP_READABLE = 4


def _iommufd(name: str, number: int) -> Ioctl:
    return Ioctl(f"IOMMU_{name}", io(";", number))


DESTROY = _iommufd("DESTROY", 0x80)
IOAS_ALLOC = _iommufd("IOAS_ALLOC", 0x81)
IOAS_COPY = _iommufd("IOAS_COPY", 0x83)
IOAS_MAP = _iommufd("IOAS_MAP", 0x85)
IOAS_UNMAP = _iommufd("IOAS_UNMAP", 0x86)
HWPT_ALLOC = _iommufd("HWPT_ALLOC", 0x89)
IOAS_MAP_FILE = _iommufd("IOAS_MAP_FILE", 0x8F)


class _Sized(Struct):
    ARGSZ = "size"


class Destroy(_Sized):
    _fields_: ClassVar = [("size", u32), ("id", u32)]


class IoasAlloc(_Sized):
    _fields_: ClassVar = [("size", u32), ("flags", u32), ("out_ioas_id", u32)]


class IoasMap(_Sized):
    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("ioas_id", u32), ("_reserved", u32),
        ("user_va", u64), ("length", u64), ("iova", u64),
    ]  # fmt: skip


class IoasMapFile(_Sized):
    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("ioas_id", u32), ("fd", s32), ("start", u64), ("length", u64), ("iova", u64),
    ]  # fmt: skip


class IoasCopy(_Sized):
    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("dst_ioas_id", u32), ("src_ioas_id", u32),
        ("length", u64), ("dst_iova", u64), ("src_iova", u64),
    ]  # fmt: skip


class HwptAlloc(_Sized):
    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("dev_id", u32), ("pt_id", u32), ("out_hwpt_id", u32), ("_reserved", u32),
        ("data_type", u32), ("data_len", u32), ("data_uptr", u64), ("fault_id", u32), ("_reserved2", u32),
    ]  # fmt: skip


class IoasUnmap(_Sized):
    _fields_: ClassVar = [("size", u32), ("ioas_id", u32), ("iova", u64), ("length", u64)]

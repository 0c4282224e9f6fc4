# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/iommufd.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import ClassVar

from ..kernel import Ioctl, Struct, io

IOMMU_IOAS_MAP_FIXED_IOVA = 1
IOMMU_IOAS_MAP_WRITEABLE = 2
IOMMU_IOAS_MAP_READABLE = 4
IOMMU_OPTION_RLIMIT_MODE = 0
IOMMU_OPTION_HUGE_PAGES = 1
IOMMU_OPTION_OP_SET = 0
IOMMU_VFIO_IOAS_GET = 0
IOMMU_VFIO_IOAS_SET = 1


def _iommufd(name: str, number: int) -> Ioctl:
    return Ioctl(name, io(";", number))


IOMMU_DESTROY = _iommufd("IOMMU_DESTROY", 0x80)
IOMMU_IOAS_ALLOC = _iommufd("IOMMU_IOAS_ALLOC", 0x81)
IOMMU_IOAS_COPY = _iommufd("IOMMU_IOAS_COPY", 0x83)
IOMMU_IOAS_MAP = _iommufd("IOMMU_IOAS_MAP", 0x85)
IOMMU_IOAS_UNMAP = _iommufd("IOMMU_IOAS_UNMAP", 0x86)
IOMMU_OPTION = _iommufd("IOMMU_OPTION", 0x87)
IOMMU_VFIO_IOAS = _iommufd("IOMMU_VFIO_IOAS", 0x88)
IOMMU_HWPT_ALLOC = _iommufd("IOMMU_HWPT_ALLOC", 0x89)
IOMMU_IOAS_MAP_FILE = _iommufd("IOMMU_IOAS_MAP_FILE", 0x8F)
IOMMU_IOAS_CHANGE_PROCESS = _iommufd("IOMMU_IOAS_CHANGE_PROCESS", 0x92)


class _Sized(Struct):
    ARGSZ = "size"


class Destroy(_Sized):
    """``iommu_destroy``"""

    _fields_: ClassVar = [("size", u32), ("id", u32)]


class IoasAlloc(_Sized):
    """``iommu_ioas_alloc``"""

    _fields_: ClassVar = [("size", u32), ("flags", u32), ("out_ioas_id", u32)]


class IoasMap(_Sized):
    """``iommu_ioas_map``"""

    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("ioas_id", u32), ("_reserved", u32),
        ("user_va", u64), ("length", u64), ("iova", u64),
    ]  # fmt: skip


class IoasMapFile(_Sized):
    """``iommu_ioas_map_file``"""

    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("ioas_id", u32), ("fd", s32), ("start", u64), ("length", u64), ("iova", u64),
    ]  # fmt: skip


class IoasCopy(_Sized):
    """``iommu_ioas_copy``"""

    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("dst_ioas_id", u32), ("src_ioas_id", u32),
        ("length", u64), ("dst_iova", u64), ("src_iova", u64),
    ]  # fmt: skip


class HwptAlloc(_Sized):
    """``iommu_hwpt_alloc``"""

    _fields_: ClassVar = [
        ("size", u32), ("flags", u32), ("dev_id", u32), ("pt_id", u32), ("out_hwpt_id", u32), ("_reserved", u32),
        ("data_type", u32), ("data_len", u32), ("data_uptr", u64), ("fault_id", u32), ("_reserved2", u32),
    ]  # fmt: skip


class IoasUnmap(_Sized):
    """``iommu_ioas_unmap``"""

    _fields_: ClassVar = [("size", u32), ("ioas_id", u32), ("iova", u64), ("length", u64)]


class Option(_Sized):
    """``iommu_option``"""

    _fields_: ClassVar = [
        ("size", u32), ("option_id", u32), ("op", u16), ("_reserved", u16), ("object_id", u32), ("val64", u64),
    ]  # fmt: skip


class VfioIoas(_Sized):
    """``iommu_vfio_ioas``"""

    _fields_: ClassVar = [("size", u32), ("ioas_id", u32), ("op", u16), ("_reserved", u16)]


class ChangeProcess(_Sized):
    """``iommu_ioas_change_process``"""

    _fields_: ClassVar = [("size", u32), ("_reserved", u32)]

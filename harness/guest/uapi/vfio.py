# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/vfio.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import ClassVar

from ..kernel import Ioctl, Struct, io

TYPE1V2_IOMMU = 3
NOIOMMU_IOMMU = 8


def _vfio(name: str, offset: int) -> Ioctl:
    return Ioctl(f"VFIO_{name}", io(";", 100 + offset))


SET_IOMMU = _vfio("SET_IOMMU", 2)
GROUP_SET_CONTAINER = _vfio("GROUP_SET_CONTAINER", 4)
GROUP_GET_DEVICE_FD = _vfio("GROUP_GET_DEVICE_FD", 6)
DEVICE_GET_INFO = _vfio("DEVICE_GET_INFO", 7)
DEVICE_GET_REGION_INFO = _vfio("DEVICE_GET_REGION_INFO", 8)
DEVICE_GET_IRQ_INFO = _vfio("DEVICE_GET_IRQ_INFO", 9)
DEVICE_SET_IRQS = _vfio("DEVICE_SET_IRQS", 10)
DEVICE_RESET = _vfio("DEVICE_RESET", 11)
DEVICE_GET_PCI_HOT_RESET_INFO = _vfio("DEVICE_GET_PCI_HOT_RESET_INFO", 12)
DEVICE_PCI_HOT_RESET = _vfio("DEVICE_PCI_HOT_RESET", 13)
IOMMU_MAP_DMA = _vfio("IOMMU_MAP_DMA", 13)
IOMMU_UNMAP_DMA = _vfio("IOMMU_UNMAP_DMA", 14)
DEVICE_FEATURE = _vfio("DEVICE_FEATURE", 17)
DEVICE_BIND_IOMMUFD = _vfio("DEVICE_BIND_IOMMUFD", 18)
DEVICE_ATTACH_IOMMUFD_PT = _vfio("DEVICE_ATTACH_IOMMUFD_PT", 19)
DEVICE_DETACH_IOMMUFD_PT = _vfio("DEVICE_DETACH_IOMMUFD_PT", 20)

DMA_MAP_FLAG_READ = 1
DMA_MAP_FLAG_WRITE = 2

FEATURE_GET = 1 << 16
FEATURE_SET = 1 << 17
FEATURE_LOW_POWER_ENTRY = 3
FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
FEATURE_LOW_POWER_EXIT = 5

CONFIG_REGION = 7
REQUEST_IRQ = 4
IRQ_SET_EVENTFD_TRIGGER = 1 << 2 | 1 << 5


class _Sized(Struct):
    ARGSZ = "argsz"


class DeviceInfo(_Sized):
    _fields_: ClassVar = [
        ("argsz", u32), ("flags", u32), ("num_regions", u32), ("num_irqs", u32), ("cap_offset", u32), ("_pad", u32),
    ]  # fmt: skip


class RegionInfo(_Sized):
    _fields_: ClassVar = [
        ("argsz", u32), ("flags", u32), ("index", u32), ("cap_offset", u32), ("size", u64), ("offset", u64),
    ]  # fmt: skip


class IrqInfo(_Sized):
    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("index", u32), ("count", u32)]


class IrqSet(_Sized):
    """The eventfds follow."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("index", u32), ("start", u32), ("count", u32)]


class Feature(_Sized):
    _fields_: ClassVar = [("argsz", u32), ("flags", u32)]


class HotReset(_Sized):
    """Both ``vfio_pci_hot_reset_info`` and ``vfio_pci_hot_reset``: their entries follow."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("count", u32)]


class DependentDevice(Struct):
    _fields_: ClassVar = [("id", u32), ("segment", u16), ("bus", u8), ("devfn", u8)]


class BindIommufd(_Sized):
    """Without ``token_uuid_ptr``, which only the PCI VF token needs and kernels before 6.17 do not know."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("iommufd", s32), ("out_devid", u32)]


class IommufdPt(_Sized):
    """``vfio_device_attach_iommufd_pt``, without the PASID members."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("pt_id", u32)]


class IommufdDetach(_Sized):
    """``vfio_device_detach_iommufd_pt``, without the PASID members."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32)]


class DmaMap(_Sized):
    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("vaddr", u64), ("iova", u64), ("size", u64)]


class DmaUnmap(_Sized):
    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("iova", u64), ("size", u64)]

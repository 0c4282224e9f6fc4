# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/linux/vfio.h"""

from ctypes import c_int32 as s32
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import ClassVar

from ..kernel import Ioctl, Struct, io

VFIO_TYPE1v2_IOMMU = 3
VFIO_NOIOMMU_IOMMU = 8


def _vfio(name: str, offset: int) -> Ioctl:
    return Ioctl(name, io(";", 100 + offset))


VFIO_SET_IOMMU = _vfio("VFIO_SET_IOMMU", 2)
VFIO_GROUP_SET_CONTAINER = _vfio("VFIO_GROUP_SET_CONTAINER", 4)
VFIO_GROUP_GET_DEVICE_FD = _vfio("VFIO_GROUP_GET_DEVICE_FD", 6)
VFIO_DEVICE_GET_REGION_INFO = _vfio("VFIO_DEVICE_GET_REGION_INFO", 8)
VFIO_DEVICE_SET_IRQS = _vfio("VFIO_DEVICE_SET_IRQS", 10)
VFIO_DEVICE_RESET = _vfio("VFIO_DEVICE_RESET", 11)
VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = _vfio("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", 12)
VFIO_DEVICE_PCI_HOT_RESET = _vfio("VFIO_DEVICE_PCI_HOT_RESET", 13)
VFIO_IOMMU_MAP_DMA = _vfio("VFIO_IOMMU_MAP_DMA", 13)
VFIO_IOMMU_UNMAP_DMA = _vfio("VFIO_IOMMU_UNMAP_DMA", 14)
VFIO_DEVICE_FEATURE = _vfio("VFIO_DEVICE_FEATURE", 17)
VFIO_DEVICE_BIND_IOMMUFD = _vfio("VFIO_DEVICE_BIND_IOMMUFD", 18)
VFIO_DEVICE_ATTACH_IOMMUFD_PT = _vfio("VFIO_DEVICE_ATTACH_IOMMUFD_PT", 19)
VFIO_DEVICE_DETACH_IOMMUFD_PT = _vfio("VFIO_DEVICE_DETACH_IOMMUFD_PT", 20)

VFIO_DMA_MAP_FLAG_READ = 1
VFIO_DMA_MAP_FLAG_WRITE = 2

VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5

VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_REQ_IRQ_INDEX = 4
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0


class _Sized(Struct):
    ARGSZ = "argsz"


class RegionInfo(_Sized):
    """``vfio_region_info``"""

    _fields_: ClassVar = [
        ("argsz", u32), ("flags", u32), ("index", u32), ("cap_offset", u32), ("size", u64), ("offset", u64),
    ]  # fmt: skip


class IrqSet(_Sized):
    """``vfio_irq_set``; its ``data``, here eventfds, follows."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("index", u32), ("start", u32), ("count", u32)]


class Feature(_Sized):
    """``vfio_device_feature``; its ``data`` follows."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32)]


class HotReset(_Sized):
    """``vfio_pci_hot_reset_info`` and ``vfio_pci_hot_reset``; their entries follow."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("count", u32)]


class DependentDevice(Struct):
    """``vfio_pci_dependent_device``"""

    _fields_: ClassVar = [("id", u32), ("segment", u16), ("bus", u8), ("devfn", u8)]


class BindIommufd(_Sized):
    """``vfio_device_bind_iommufd`` without ``token_uuid_ptr``, which only the PCI VF token needs; since 6.17."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("iommufd", s32), ("out_devid", u32)]


class BindIommufdToken(_Sized):
    """``vfio_device_bind_iommufd`` with ``token_uuid_ptr``, the address of the 16 bytes of a PCI VF token."""

    _fields_: ClassVar = [
        ("argsz", u32), ("flags", u32), ("iommufd", s32), ("out_devid", u32), ("token_uuid_ptr", u64),
    ]  # fmt: skip


class IommufdPt(_Sized):
    """``vfio_device_attach_iommufd_pt``, without the PASID members."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("pt_id", u32)]


class IommufdDetach(_Sized):
    """``vfio_device_detach_iommufd_pt``, without the PASID members."""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32)]


class DmaMap(_Sized):
    """``vfio_iommu_type1_dma_map``"""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("vaddr", u64), ("iova", u64), ("size", u64)]


class DmaUnmap(_Sized):
    """``vfio_iommu_type1_dma_unmap``"""

    _fields_: ClassVar = [("argsz", u32), ("flags", u32), ("iova", u64), ("size", u64)]

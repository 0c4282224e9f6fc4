# SPDX-License-Identifier: GPL-2.0-only
"""The uAPI tables against the numbers that a C compiler gives for the headers of Linux 7.2."""

from ctypes import sizeof

import pytest

from harness.guest.kernel import Ioctl, Struct
from harness.guest.uapi import dmabuf, iommufd, verbs, vfio


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (vfio.VFIO_DEVICE_RESET, 0x3B6F),
        (vfio.VFIO_DEVICE_PCI_HOT_RESET, 0x3B71),
        (vfio.VFIO_IOMMU_MAP_DMA, 0x3B71),
        (vfio.VFIO_DEVICE_FEATURE, 0x3B75),
        (vfio.VFIO_DEVICE_BIND_IOMMUFD, 0x3B76),
        (iommufd.IOMMU_OPTION, 0x3B87),
        (iommufd.IOMMU_IOAS_MAP_FILE, 0x3B8F),
        (iommufd.IOMMU_IOAS_CHANGE_PROCESS, 0x3B92),
        (dmabuf.DMA_BUF_IOCTL_SYNC, 0x40086200),
    ],
    ids=lambda value: value.name if isinstance(value, Ioctl) else "",
)
def test_ioctl_numbers(request_: Ioctl, number: int) -> None:
    assert request_.number == number


def test_the_verbs_ioctl() -> None:
    assert verbs.RDMA_VERBS_IOCTL == 0xC0181B01
    assert (verbs.UVERBS_ATTR_REG_DMABUF_MR_FD, verbs.UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY) == (5, 8)


@pytest.mark.parametrize(
    ("struct", "size"),
    [
        (vfio.RegionInfo, 32),
        (vfio.DependentDevice, 8),
        (vfio.DmaMap, 32),
        (vfio.IommufdPt, 12),
        (iommufd.IoasMap, 40),
        (iommufd.IoasMapFile, 40),
        (iommufd.IoasCopy, 40),
        (iommufd.IoasUnmap, 24),
        (iommufd.Option, 24),
        (iommufd.VfioIoas, 12),
        (iommufd.ChangeProcess, 8),
        (verbs.Attr, 16),
        (verbs.Header, 24),
    ],
)
def test_structures_are_as_large_as_the_kernels(struct: type[Struct], size: int) -> None:
    assert sizeof(struct) == size


def test_argsz_is_the_size_of_the_structure() -> None:
    assert vfio.RegionInfo(index=2).as_dict()["argsz"] == 32
    assert vfio.BindIommufd(iommufd=3).argsz == 16
    assert iommufd.Destroy(id=1).size == 8

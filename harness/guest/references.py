# SPDX-License-Identifier: GPL-2.0-only
"""Count the references that a case could leave in the kernel.

Each counter has a state in which nothing is left, independent of the devices that are bound and the modules that are
loaded. So a case may bind a device or load a module, and its counters must still return to where they were.

Every case reads the counters, and an emulated guest is slow. So this module uses scandir and counts lines instead of
parsing them: a reading takes milliseconds.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache

from . import dmabuf, files, importer
from .kernel import ioctl
from .poll import poll
from .uapi import importer as uapi

MODULES = "/proc/modules"
IOMMU_GROUPS = "/sys/kernel/iommu_groups"
VFIO_GROUPS = "/sys/class/vfio"
VFIO_CDEVS = "/sys/class/vfio-dev"
PAGE_TABLES = "/sys/kernel/debug/iommu/intel"
"""A directory for each device, since 6.7 (drivers/iommu/intel/debugfs.c)."""
VFIO_USERS = "users of module vfio"
"""One user is the mount of vfio's file system, since 6.10, while a device is registered (vfio_device_fs_inode_new)."""
NOT_USERS = {"-", "", "[permanent]"}
"""Words in the list of dependent modules that name no module (kernel/module/procfs.c)."""


def read(with_importer: bool) -> dict[str, int]:
    """Return every counter that is not 0. ``with_importer``: also those of the test importer."""
    counters = {f"users of module {name}": count for name, count in users(files.read_text(MODULES).splitlines())}
    if any(listed(VFIO_CDEVS)) and counters.get(VFIO_USERS):
        counters[VFIO_USERS] -= 1
    counters["dma-bufs"], counters["attachments to dma-bufs"] = dmabuf.count()
    counters["IOMMU groups without a device"] = sum(not any(listed(f"{g.path}/devices")) for g in listed(IOMMU_GROUPS))
    counters["vfio groups without a device"] = sum(not group_in_use(group.name) for group in listed(VFIO_GROUPS))
    counters["vfio cdevs without a driver"] = sum(
        not files.exists(f"{cdev.path}/device/driver") for cdev in listed(VFIO_CDEVS)
    )
    for device in listed(PAGE_TABLES):
        if device.is_dir():
            counters[f"entries in the IOMMU page table of {device.name}"] = entries(device.path)
    if with_importer:
        counters |= importer_counts()
    return {name: count for name, count in counters.items() if count}


def settle(expected: dict[str, int], with_importer: bool, seconds: float) -> dict[str, int]:
    """Read the counters until they are as expected, for at most ``seconds``. Returns the last reading.

    The kernel releases some references on a workqueue, shortly after the close that ends them.
    """
    last: dict[str, int] = {}

    def as_expected() -> bool:
        nonlocal last
        last = read(with_importer)
        return last == expected

    poll(as_expected, seconds)
    return last


def users(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield each module's name and the references on it, without those of modules that use its symbols."""
    for line in lines:
        name, _, count, dependents, *_ = line.split()
        if count != "-":  # CONFIG_MODULE_UNLOAD=n
            yield name, int(count) - len(set(dependents.split(",")) - NOT_USERS)


def module_users(name: str) -> int | None:
    """Count the references on one module, without those of modules that use its symbols. None if it is no module."""
    return dict(users(files.read_text(MODULES).splitlines())).get(name)


def entries(device: str) -> int:
    """Count the leaf entries of a device's page table. Each row of the dump is one, and begins with its IOVA."""
    dump = f"{device}/domain_translation_struct"
    return files.read(dump).count(b"\n0x") if files.exists(dump) else 0


def listed(directory: str) -> Iterator["os.DirEntry[str]"]:
    """Yield what a directory lists; nothing if the kernel has no such directory."""
    try:
        with os.scandir(directory) as found:
            yield from found
    except FileNotFoundError:
        return


def group_in_use(name: str) -> bool:
    """Return whether a vfio group, ``7`` or ``noiommu-7``, has a device with a registered vfio device.

    ``/sys/class/vfio`` also lists what is no group, and has no number.
    """
    number = name.removeprefix("noiommu-")
    return not number.isdigit() or any(
        files.exists(f"{device.path}/vfio-dev") for device in listed(f"{IOMMU_GROUPS}/{number}/devices")
    )


def importer_counts() -> dict[str, int]:
    """Read the counters of the test importer (``struct importer_counts``).

    IOVAs are left out if the module has no probes, and if a domain flushes its IOTLB lazily (group type DMA-FQ): there
    a freed IOVA stays allocated until a timer runs, and forever if its domain is freed first
    (drivers/iommu/dma-iommu.c, iommu_dma_free_fq_percpu).

    The size of the IOVAs is left out. After a map that fails half way, dma_iova_destroy() gives the IOVA back but
    passes the mapped length to free_iova_fast() (7.2.12), so the sum of the sizes does not return to where it was.
    """
    fd = importer.open_node()
    counts = uapi.Counts()
    try:
        ioctl(fd, uapi.IMPORTER_COUNTS, counts)
    finally:
        os.close(fd)
    found = {"users of vfio devices": counts.registrations}
    if not counts.flags & uapi.IMPORTER_COUNTS_IOVAS or lazy():
        return found
    if counts.missed:
        raise ValueError(f"{counts.missed} calls of alloc_iova_fast or free_iova_fast were not counted")
    return found | {"IOVAs": counts.iovas}


@cache
def lazy() -> bool:
    """Return whether a domain flushes its IOTLB lazily. The kernel's command line decides, so one look is enough."""
    kinds = (f"{group.path}/type" for group in listed(IOMMU_GROUPS))
    return any(files.exists(kind) and files.read_text(kind).strip() == "DMA-FQ" for kind in kinds)

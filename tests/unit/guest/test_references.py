# SPDX-License-Identifier: GPL-2.0-only
"""The counters of the guest, read from files as the kernel writes them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.guest import dmabuf, references
from harness.guest.kernel import Ioctl
from harness.guest.uapi import importer as uapi

MODULES = """\
vfio_harness_importer 36864 1 - Live 0x0000000000000000 (O)
rdma_rxe 126976 0 - Live 0x0000000000000000 (O)
ib_uverbs 110592 3 rdma_rxe,vfio_harness_importer, Live 0x0000000000000000
vfio_pci_core 73728 1 vfio_pci, Live 0x0000000000000000
vfio 69632 3 vfio_iommu_type1,vfio_pci_core, Live 0x0000000000000000
nfit 20480 0 [permanent], Live 0x0000000000000000
"""
BUFINFO = """
size    \tflags   \tmode    \tcount   \texp_name\tino     \tname
00004096\t00080002\t0008000f\t00000002\tvfio_pci_core\t00000012\t<none>
\tAttached Devices:
\t0000:00:04.0
\t0000:00:05.0
Total 2 devices attached


Total 1 objects, 4096 bytes
"""
TABLE = (
    "IOVA_PFN\tPML5E\n"
    + 3 * "0x0000000002000 |\t0x0\t0x0000000004e5e003\t0x0000000004e5f003\t0x0000000004e60003\t0x80000000fe801803\n"
)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the counters at files below a directory: a machine with one device, bound to vfio-pci, in group 7."""
    for name in ("IOMMU_GROUPS", "VFIO_GROUPS", "VFIO_CDEVS", "PAGE_TABLES"):
        monkeypatch.setattr(references, name, str(tmp_path / name))
    monkeypatch.setattr(references, "MODULES", tmp_path / "MODULES")
    monkeypatch.setattr(dmabuf, "BUFINFO", tmp_path / "bufinfo")
    references.lazy.cache_clear()
    (tmp_path / "MODULES").write_text(MODULES)
    (tmp_path / "bufinfo").write_text("\nTotal 0 objects, 0 bytes\n")
    for directory in (
        "IOMMU_GROUPS/7/devices/0000:01:00.0/vfio-dev/vfio0",
        "VFIO_GROUPS/7",
        "VFIO_GROUPS/vfio",
        "VFIO_CDEVS/vfio0/device/driver",
        "PAGE_TABLES/0000:01:00.0",
    ):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "IOMMU_GROUPS/7/type").write_text("DMA\n")
    (tmp_path / "PAGE_TABLES/0000:01:00.0/domain_translation_struct").write_text("")
    return tmp_path


def test_a_bound_device_and_loaded_modules_leave_nothing(kernel: Path) -> None:
    assert references.read(False) == {"users of module ib_uverbs": 1, "users of module vfio_harness_importer": 1}


@pytest.mark.parametrize(
    ("leak", "counter"),
    [
        (lambda at: (at / "IOMMU_GROUPS/8/devices").mkdir(parents=True), {"IOMMU groups without a device": 1}),
        (lambda at: (at / "VFIO_GROUPS/8").mkdir(), {"vfio groups without a device": 1}),
        (lambda at: (at / "VFIO_GROUPS/noiommu-9").mkdir(), {"vfio groups without a device": 1}),
        (lambda at: (at / "VFIO_CDEVS/vfio0/device/driver").rmdir(), {"vfio cdevs without a driver": 1}),
        (lambda at: (at / "bufinfo").write_text(BUFINFO), {"dma-bufs": 1, "attachments to dma-bufs": 2}),
        (
            lambda at: (at / "PAGE_TABLES/0000:01:00.0/domain_translation_struct").write_text(TABLE),
            {"entries in the IOMMU page table of 0000:01:00.0": 3},
        ),
        (
            lambda at: (at / "MODULES").write_text(MODULES.replace("73728 1", "73728 3")),
            {"users of module vfio_pci_core": 2},
        ),
        (
            lambda at: (at / "MODULES").write_text(MODULES.replace("69632 3", "69632 4")),
            {"users of module vfio": 1},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_counter_sees(kernel: Path, leak: Callable[[Path], object], counter: dict[str, int]) -> None:
    before = references.read(False)
    leak(kernel)
    assert references.read(False) == before | counter


def test_a_kernel_that_cannot_unload_modules_has_no_users() -> None:
    assert list(references.users(["vfio 1 - - Live 0x0"])) == []


def test_settle_waits_for_the_kernel_and_gives_up(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([{"a": 1}, {"b": 2}, {"b": 1}])
    monkeypatch.setattr(references, "read", lambda with_importer: next(readings))
    assert references.settle({"b": 1}, with_importer=False, seconds=10) == {"b": 1}
    monkeypatch.setattr(references, "read", lambda with_importer: {"a": 1, "b": 1})
    assert references.settle({"b": 1}, with_importer=False, seconds=0) == {"a": 1, "b": 1}


def counted(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    """Make IMPORTER_COUNTS return ``values``."""

    def answer(fd: int, request: Ioctl, counts: uapi.Counts) -> int:
        for name, value in values.items():
            setattr(counts, name, value)
        return 0

    monkeypatch.setattr(references.importer, "open_node", lambda: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(references, "ioctl", answer)


def test_the_importer_counts_registrations_and_iovas(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, registrations=2, flags=uapi.IMPORTER_COUNTS_IOVAS, iovas=-1)
    found = references.importer_counts()
    assert found == {"users of vfio devices": 2, "IOVAs": -1}


def test_iovas_are_left_out_where_they_cannot_be_counted(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, registrations=2)
    assert references.importer_counts() == {"users of vfio devices": 2}
    counted(monkeypatch, flags=uapi.IMPORTER_COUNTS_IOVAS, iovas=3)
    (kernel / "IOMMU_GROUPS/7/type").write_text("DMA-FQ\n")
    assert references.importer_counts() == {"users of vfio devices": 0}


def test_missed_probes_are_an_error(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, flags=uapi.IMPORTER_COUNTS_IOVAS, missed=1)
    with pytest.raises(ValueError, match="not counted"):
        references.importer_counts()

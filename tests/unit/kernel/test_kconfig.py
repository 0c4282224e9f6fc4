# SPDX-License-Identifier: GPL-2.0-only
"""Fragments, configurations, and the messages about missing options."""

from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from harness.config import ArchName, architecture, architectures
from harness.errors import KernelLacksFeature, UsageError
from harness.kernel.build import features, kconfig
from harness.kernel.build.kconfig import Requirement
from harness.kernel.model import Flavour, RxeSupport, has_gcov
from harness.kernel.source.uapi import parse_export

# include/uapi/linux/vfio.h of 7.2.12, shortened
HEADER_7_2 = """\
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

struct vfio_region_dma_range {
	__u64 offset;
	__u64 length;
};

struct vfio_device_feature_dma_buf {
	__u32	region_index;
	__u32	open_flags;
	__u32   flags;
	__u32   nr_ranges;
	struct vfio_region_dma_range dma_ranges[] __counted_by(nr_ranges);
};
"""
# of the series of August 2022, on 6.1
HEADER_V1 = """\
#define VFIO_DEVICE_FEATURE_DMA_BUF 3

struct vfio_device_feature_dma_buf {
	__u32 region_index;
	__u32 open_flags;
	__u32 offset;
	__u64 length;
};
"""


def _met() -> dict[str, str]:
    return {r.any[0]: "y" for r in kconfig.requirements().required}


def test_options_are_read_with_quotes_and_comments() -> None:
    text = ["# a comment", "", "CONFIG_A=y", "CONFIG_B=m", "# CONFIG_C is not set", 'CONFIG_D="x y"', "CONFIG_E=16"]
    assert kconfig.parse(text, "f") == {"A": "y", "B": "m", "C": "n", "D": '"x y"', "E": "16"}


@pytest.mark.parametrize("line", ["A=y", "CONFIG_A", "CONFIG_A=", "config_a=y"])
def test_a_malformed_line_is_named(line: str) -> None:
    with pytest.raises(UsageError, match=r"f\.config:2: not a kernel option"):
        kconfig.parse(["# first", line], "f.config")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files of a current kernel's source that the checks read."""
    for name, word in chain.from_iterable(each.source.items() for each in kconfig.requirements().features.values()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / name).open("a") as file:
            file.write(word)
    return tmp_path


def options(flavour: Flavour, source: Path) -> dict[str, str]:
    return kconfig.parse(kconfig.fragment(flavour, source).splitlines(), flavour)


def test_debug_is_release_and_more(source: Path) -> None:
    release, debug = options("release", source), options("debug", source)
    assert release.items() <= debug.items()
    assert debug["KASAN"] == debug["PROVE_LOCKING"] == "y"
    assert "KASAN" not in release


def test_only_selftest_has_the_tests_of_iommufd(source: Path) -> None:
    tests = kconfig.requirements().features["iommufd_test"]
    assert [each for each in get_args(Flavour) if tests.in_config(options(each, source))] == ["selftest"]


@pytest.mark.parametrize("flavour", ["debug", "coverage", "selftest"])
def test_allocations_can_fail(flavour: Flavour, source: Path) -> None:
    assert kconfig.requirements().features["failslab"].in_config(options(flavour, source))


def test_a_move_notify_importer_needs_an_option(source: Path) -> None:
    wanted = {"DMABUF_MOVE_NOTIFY": "y"}
    assert not wanted.items() <= options("release", source).items()
    (source / "include/linux/dma-buf.h").write_text("void (*move_notify)(struct dma_buf_attachment *attach);")
    assert wanted.items() <= options("release", source).items()


def test_only_a_kernel_with_registered_dma_bufs_gets_io_uring(source: Path) -> None:
    wanted = {"IO_URING": "y", "BLK_DEV_NVME": "m"}
    assert wanted.items() <= options("release", source).items()
    (source / "include/uapi/linux/io_uring.h").write_text("IO_REGBUF_TYPE_UADDR,")
    assert not wanted.keys() & options("release", source).keys()


@pytest.mark.parametrize(
    ("release", "has"),
    [("7.3.4", False), ("7.4.0-rc1", True), ("7.4", True), ("7.10.1+", True), ("8.0.0", True), ("6.12.5-amd64", False)],
)
def test_without_a_source_the_release_says_what_io_uring_has(release: str, has: bool) -> None:
    config = {"IO_URING": "y", "BLK_DEV_NVME": "m", "UDMABUF": "y"}
    found = features.detect(config, None, None, RxeSupport("absent", "why"), "why", release=release)
    assert found["io_uring_dmabuf"] == has


@pytest.mark.parametrize("arch", architectures())
def test_the_fragment_meets_each_requirement_of_its_architecture(source: Path, arch: ArchName) -> None:
    text = kconfig.fragment("release", source, arch)
    config = kconfig.parse(text.splitlines(), arch) | {architecture(arch).kernel.option: "y"}
    assert not kconfig.unmet(config, kconfig.requirements().required)


def test_a_requirement_of_another_architecture_does_not_count() -> None:
    timer = Requirement(any=["X86_PM_TIMER"], arch="x86_64", why="the clock")
    assert kconfig.unmet({"X86_64": "y"}, [timer])
    assert not kconfig.unmet({"ARM64": "y"}, [timer])


def test_a_module_does_not_meet_a_builtin_requirement() -> None:
    virtio = Requirement(any=["VIRTIO_BLK"], builtin=True, why="the root")
    assert kconfig.unmet({"VIRTIO_BLK": "m"}, [virtio]) == [
        "CONFIG_VIRTIO_BLK=y: the root (VIRTIO_BLK is only a module)"
    ]
    assert not kconfig.unmet({"VIRTIO_BLK": "y"}, [virtio])


def test_a_dependency_is_named_only_if_it_is_off() -> None:
    cdev = Requirement(any=["VFIO_DEVICE_CDEV"], needs=["VFIO", "IOMMUFD"], since="6.6", why="cases open devices")
    assert kconfig.unmet({"VFIO": "m"}, [cdev]) == [
        "CONFIG_VFIO_DEVICE_CDEV=m: cases open devices "
        "(it depends on CONFIG_IOMMUFD, which is off; Linux has the option since 6.6)"
    ]


def test_one_of_several_is_enough() -> None:
    either = Requirement(any=["VFIO_DEVICE_CDEV", "VFIO_GROUP"], why="cases open devices")
    assert not kconfig.unmet({"VFIO_GROUP": "y"}, [either])
    assert kconfig.unmet({}, [either])[0].startswith("CONFIG_VFIO_DEVICE_CDEV=m or CONFIG_VFIO_GROUP=m: ")


def test_all_missing_options_are_listed_at_once() -> None:
    config = _met()
    kconfig.require(config, "here")
    del config["EROFS_FS"], config["SERIAL_8250_CONSOLE"]
    with pytest.raises(KernelLacksFeature, match=r"(?s)here lacks.*EROFS_FS.*SERIAL_8250_CONSOLE"):
        kconfig.require(config, "here")


def test_export_uapi_since_6_19() -> None:
    uapi = parse_export(HEADER_7_2)
    assert uapi is not None
    assert (uapi.number, uapi.layout) == (11, "ranges")
    assert [name for _, name in uapi.fields] == ["region_index", "open_flags", "flags", "nr_ranges", "dma_ranges"]


def test_export_uapi_of_2022() -> None:
    uapi = parse_export(HEADER_V1)
    assert uapi is not None
    assert (uapi.number, uapi.layout) == (3, "single")
    assert uapi.fields[-1] == ("__u64", "length")


def test_without_an_export_there_is_no_uapi() -> None:
    assert parse_export("#define VFIO_DEVICE_FEATURE_BUS_MASTER 10\n") is None


def test_export_is_detected_by_option_or_by_uapi() -> None:
    parts = {"VFIO_PCI_CORE": "m", "PCI_P2PDMA": "y", "DMA_SHARED_BUFFER": "y"}
    assert features.has_export({"VFIO_PCI_DMABUF": "y"}, None)
    assert features.has_export(parts, parse_export(HEADER_V1))
    assert not features.has_export(parts, None)
    del parts["PCI_P2PDMA"]
    assert not features.has_export(parts, parse_export(HEADER_V1))
    with pytest.raises(KernelLacksFeature, match=r"Linux 6\.1 has no vfio-pci dma-buf export"):
        features.require_export(parts, None, "Linux 6.1")


def test_features(source: Path) -> None:
    assert features.detect({"IOMMUFD": "m"}, source, None, RxeSupport("absent", "why"), "why")["iommufd"]
    (source / "include/linux/vfio_pci_core.h").unlink()
    assert not features.detect({"IOMMUFD": "m"}, source, None, RxeSupport("absent", "why"), "why")["iommufd"]
    found = features.detect({"FAILSLAB": "y", "KASAN": "y"}, None, None, RxeSupport("absent", "why"), "why")
    assert found["kasan"]
    assert not found["failslab"]  # without its debugfs switch no case can use it
    assert not found["vfio_group"]
    assert features.detect({"VFIO_IOMMU_TYPE1": "m"}, None, None, RxeSupport("absent", "why"), "")[
        "vfio_group"
    ]  # as on 6.1
    assert not found["rxe"]
    assert not found["test_importer"]
    assert not found["dmabuf_export"]


def test_only_a_kernel_with_gcov_is_measured() -> None:
    assert has_gcov({"PCI": "y", "GCOV_KERNEL": "y"})
    assert not has_gcov({"PCI": "y"})

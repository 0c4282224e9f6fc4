# SPDX-License-Identifier: GPL-2.0-only
"""What the run record says of the kernel, and which files the run's directory gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kernel import Kernel, RxeSupport
from harness.kernel.model import Build, GitCommit, SentPatch
from harness.run.kernel_record import kernel_record
from harness.verdict import BuildRecord, GitRecord, PatchRecord

GCC = "gcc (Debian 14.2.0-19) 14.2.0"
STARTED = "2026-11-29T03:00:00+00:00"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Return a kernel that was built; its files are in ``ready``."""
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "config").write_text("CONFIG_X86_64=y\n")
    (ready / "log").write_text("  CC      a.o\n")
    return Kernel(
        image=ready / "bzImage",
        modules_image=ready / "modules.erofs",
        release="7.2.12",
        origin="/linux@main at 0123456789ab",
        config={"X86_64": "y", "CC_VERSION_TEXT": f'"{GCC}"'},
        config_hash="c0ffee",
        patches=("1/1 vfio: One",),
        features={"rxe": True},
        source_dir=None,
        build_dir=tmp_path,
        rxe=RxeSupport("mainline"),
        importer_absent="",
        uapi=None,
        git=GitCommit("/linux", "main", 40 * "a", "v7.2-dirty", dirty=True),
        build=Build(ready / "config", STARTED, 7.5, ready / "log"),
        series=(SentPatch("1/1 vfio: One", "1@a.example", 64 * "b"),),
    )


def test_the_record_says_where_the_kernel_comes_from(kernel: Kernel, tmp_path: Path) -> None:
    record = kernel_record(kernel, tmp_path)
    assert record.git == GitRecord(url="/linux", ref="main", commit=40 * "a", describe="v7.2-dirty", dirty=True)
    assert record.series == [PatchRecord(subject="1/1 vfio: One", message_id="1@a.example", sha256=64 * "b")]
    assert record.build == BuildRecord(
        architecture="x86_64",
        compiler=GCC,
        started=STARTED,
        duration_s=7.5,
        log="kernel-build.log",
        config="kernel.config",
    )
    assert (tmp_path / "kernel-build.log").read_text() == "  CC      a.o\n"
    assert (tmp_path / "kernel.config").read_text() == "CONFIG_X86_64=y\n"


def test_what_is_not_known_is_left_out(kernel: Kernel, tmp_path: Path) -> None:
    assert kernel.build
    as_is = replace(kernel, git=None, series=(), build=Build(kernel.build.config), config={"X86_64": "y"})
    record = kernel_record(as_is, tmp_path)
    assert (record.git, record.series) == (None, [])
    assert record.build == BuildRecord(architecture="x86_64", config="kernel.config")
    assert not (tmp_path / "kernel-build.log").exists()
    assert kernel_record(replace(as_is, build=None), tmp_path).build is None


def test_a_copy_that_fails_is_the_hosts_fault(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "kernel.config").mkdir()
    with pytest.raises(HarnessError, match=r"kernel\.config: Is a directory"):
        kernel_record(kernel, tmp_path)

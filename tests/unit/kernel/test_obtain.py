# SPDX-License-Identifier: GPL-2.0-only
"""A bootable kernel stays in the cache as long as a run may boot it."""

import gc
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.host.held import remove_unless_held
from harness.kernel import Kernel
from harness.kernel.model import RxeSupport
from harness.kernel.obtain import _check_build_dir, _in_use
from harness.kernel.source.resolve import BuildDirectory


def kernel_in(entry: Path) -> Kernel:
    entry.mkdir()
    (entry / "bzImage").touch()
    return Kernel(
        image=entry / "bzImage",
        modules_image=entry / "modules.erofs",
        release="7.2.12",
        origin="a test",
        config={},
        config_hash="",
        patches=(),
        features={},
        source_dir=None,
        build_dir=entry,
        rxe=RxeSupport("absent"),
        importer_absent="",
        uapi=None,
    )


def test_an_entry_can_be_removed_after_its_last_user(tmp_path: Path) -> None:
    kernel = _in_use(kernel_in(tmp_path / "entry"))
    remove_unless_held(tmp_path / "entry")
    assert kernel.image.exists()
    del kernel
    gc.collect()
    remove_unless_held(tmp_path / "entry")
    assert not (tmp_path / "entry").exists()


def test_a_build_directory_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("CONFIG_ARM64=y\n")
    build = BuildDirectory(tmp_path, str(tmp_path), None)
    with pytest.raises(UsageError, match="is a kernel for arm64, and the machine is x86_64"):
        _check_build_dir(build, "x86_64")
    with pytest.raises(UsageError, match=r"has no arch/arm64/boot/Image: not built yet") as refused:
        _check_build_dir(build, "arm64")
    assert refused.value.hint == f"make -C {tmp_path} Image"

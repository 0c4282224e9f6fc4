# SPDX-License-Identifier: GPL-2.0-only
"""Whether a change concerns modules alone."""

from pathlib import Path

import pytest

from harness.kernel.build.modules_only import only_modules

COMPILED = "savedcmd_{0} := gcc -nostdinc {1} -c -o {0} x.c\n\nsource_{0} := x.c\n\ndeps_{0} := \\\n"
LINKED = "savedcmd_{0} := ld -r -o {0} @{0}.mod\n"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build with a directory of modules, one of objects of vmlinux, and one of both."""
    commands = {
        "drivers/vfio/pci/.core.o.cmd": COMPILED.format("core.o", " -DMODULE  -DKBUILD_BASENAME=core"),
        "drivers/vfio/pci/.vfio-pci.o.cmd": LINKED.format("vfio-pci.o"),
        "drivers/dma-buf/.dma-buf.o.cmd": COMPILED.format("dma-buf.o", ""),
        "drivers/mixed/.a.o.cmd": COMPILED.format("a.o", " -DMODULE "),
        "drivers/mixed/.b.o.cmd": COMPILED.format("b.o", ""),
    }
    for name, text in commands.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "drivers/linked").mkdir()
    (tmp_path / "drivers/linked/.a.o.cmd").write_text(LINKED.format("a.o"))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["./drivers/vfio/pci/core.c"], True),
        (["./drivers/vfio/pci", "./drivers/vfio/pci/core.c"], True),
        (["./drivers/vfio/pci/priv.h"], False),
        (["./drivers/vfio/pci/Makefile"], False),
        (["./drivers/vfio/pci/entry.S"], False),
        (["./drivers/dma-buf/dma-buf.c"], False),
        (["./drivers/vfio/pci/core.c", "./drivers/dma-buf"], False),
        (["./drivers/mixed/a.c"], False),
        (["./drivers/linked/a.c"], False),
        (["./include/linux/vfio.h"], False),
        (["./drivers/new/new.c"], False),
        (["."], False),
    ],
)
def test_only_c_files_beside_modules_count(build: Path, changed: list[str], expected: bool) -> None:
    assert only_modules(changed, build, {}) is expected


def test_trimmed_exports_make_vmlinux_depend_on_modules(build: Path) -> None:
    assert not only_modules(["./drivers/vfio/pci/core.c"], build, {"TRIM_UNUSED_KSYMS": "y"})

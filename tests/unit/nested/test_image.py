# SPDX-License-Identifier: GPL-2.0-only
"""The outer machine's modules are loaded in order, and its archive is what the kernel reads."""

import os
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.host.held import is_held, last_change
from harness.nested import image, initramfs
from harness.nested.recipe import Packages
from harness.progress import silent

RELEASE = "6.1.0"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an unpacked kernel, as depmod leaves it."""
    monkeypatch.setattr(image.process, "check", lambda *args, **kwargs: [])
    top = tmp_path / "lib" / "modules" / RELEASE
    top.mkdir(parents=True)
    (top / "modules.dep").write_text("k/kvm-amd.ko: k/ccp.ko k/kvm.ko k/bypass.ko\nk/kvm.ko: k/bypass.ko\nk/x.ko.xz:\n")
    (top / "modules.builtin").write_text("kernel/drivers/virtio/virtio.ko\n")
    return tmp_path


def test_each_module_follows_those_that_it_needs(root: Path) -> None:
    found = image.modules(root, RELEASE, ["virtio", "kvm", "kvm_amd"])
    assert [path.name for path in found] == ["bypass.ko", "kvm.ko", "ccp.ko", "kvm-amd.ko"]


def test_a_module_that_the_kernel_lacks_is_named(root: Path) -> None:
    with pytest.raises(HarnessError, match=r"kernel 6\.1\.0 has no module kvm_intel"):
        image.modules(root, RELEASE, ["kvm_intel"])


def test_a_compressed_module_is_refused(root: Path) -> None:
    with pytest.raises(HarnessError, match=r"compressed modules: k/x\.ko\.xz"):
        image.modules(root, RELEASE, ["x"])


def test_an_image_in_use_is_not_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    outer = Packages(suite="s", mirror="m", keyring="k", packages=["p"], modules=["m"])
    entry = tmp_path / "nested" / image._key(outer)
    entry.mkdir(parents=True)
    (entry / "initrd").touch()
    os.utime(entry, (0, 0))
    found = image.obtain(outer, silent)
    assert time.time() - last_change(entry) < 60
    assert is_held(entry)
    del found
    assert not is_held(entry)
    assert image.cached() == [entry]


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive as Documentation/driver-api/early-userspace/buffer-format.rst describes it."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length]
        start = at + 110 + length + -(at + 110 + length) % 4
        at = start + size + -(start + size) % 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return found
        found[name.rstrip(b"\0").decode()] = (mode, archive[start : start + size])


def test_a_tree_keeps_its_modes_and_links(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir(mode=0o755)
    (tmp_path / "sbin" / "busybox").write_bytes(b"\x7fELF!")
    (tmp_path / "sbin" / "busybox").chmod(0o755)
    (tmp_path / "bin").symlink_to("usr/bin")
    assert entries(initramfs.pack_tree(tmp_path)) == {
        "bin": (0o120777, b"usr/bin"),
        "sbin": (0o040755, b""),
        "sbin/busybox": (0o100755, b"\x7fELF!"),
    }


def test_files_come_with_their_directories() -> None:
    assert entries(initramfs.pack_files({"etc/x/y": b"1", "job": b"22222"})) == {
        "etc": (0o040755, b""),
        "etc/x": (0o040755, b""),
        "etc/x/y": (0o100755, b"1"),
        "job": (0o100755, b"22222"),
    }


def test_an_archive_begins_where_the_kernel_looks_for_it() -> None:
    joined = initramfs.join(b"12345", b"070701", b"")
    assert joined == b"12345" + bytes(3) + b"070701" + bytes(2)
    assert joined.index(b"070701") % 4 == 0

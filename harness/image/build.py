# SPDX-License-Identifier: GPL-2.0-only
"""Put the root file system together in a directory and pack it into an erofs image.

The same inputs and keys give the same bytes."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.config import Architecture
from harness.errors import HarnessError
from harness.host import process
from harness.host.packages import install_line, require
from harness.image import bytecode, packages
from harness.image.keys import Keys
from harness.image.recipe import INIT, ROOTFS, Recipe

# Mount points.
_DIRECTORIES = ("dev", "kernel", "proc", "root", "run", "sys", "tmp", "var", "etc/dropbear")
# The links of a merged /usr, and of paths that are writable or come with the kernel.
_LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "sbin": "usr/sbin",
    "var/run": "/run",
    "var/tmp": "/tmp",
    "var/log": "/run",
    "usr/lib/modules": "/kernel/lib/modules",
    "etc/mtab": "/proc/self/mounts",
}
_PROGRAMS = {
    "init.c": "usr/sbin/vfio-harness-init",
    "floor.c": "usr/sbin/vfio-harness-floor",
    "agent.c": "usr/lib/vfio-harness/agent",
}
_QUOTED = 8
"""Lines of a failed program that the error quotes."""
_CFLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-Wl,--build-id=none")
_UUID = "76666966-6f00-4000-8000-000000000001"  # arbitrary, but constant: the image must be reproducible


def assemble(recipe: Recipe, arch: Architecture, keys: Keys, scratch: Path, image: Path, *, tools: Path | None) -> None:
    """Build the image. ``scratch`` is a new private directory (it gets keys), which the caller removes.

    ``tools``: an image whose programs this host can run; None if it can run those of ``arch``."""
    unpacked, root = scratch / "unpacked", scratch / "root"
    packages.unpack(recipe, arch.debian, unpacked)
    packages.select(recipe, unpacked, root)
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True, exist_ok=True)
    _link(root, _LINKS)
    # pip compiles the modules of a wheel, with the host's Python.
    shutil.copytree(ROOTFS / "overlay", root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    runnable = root
    if tools:
        bytecode.extract(tools, runnable := scratch / "tools")
    _add_applets(root, runnable)
    _compile_programs(root, arch)
    # Each module, as the packages' maintainer scripts would.
    bytecode.compile_all(runnable, "-s", root, "-p", "/", root / "usr/lib")
    _add_keys(root, keys)
    _pack(root, image)


def _link(root: Path, links: Mapping[str, str]) -> None:
    for name, target in links.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _add_applets(root: Path, runnable: Path) -> None:
    """Link busybox under each name of its applets that no other program has. ``runnable`` has the same busybox."""
    for applet in process.check([runnable / "usr/bin/busybox", "--list"], cwd=root, timeout_s=10):
        if not any((root / directory / applet).exists() for directory in ("usr/bin", "usr/sbin")):
            (root / "usr/bin" / applet).symlink_to("busybox")


def _compile_programs(root: Path, arch: Architecture) -> None:
    compiler = require(arch.tool("gcc"))
    for source, name in _PROGRAMS.items():
        program = root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            process.check([compiler, *_CFLAGS, "-o", program, INIT / source], cwd=root, timeout_s=120, quoted=_QUOTED)
        except HarnessError as error:
            error.hint = error.hint or install_line(
                ["gcc", "libc.a"] if arch.is_native else [arch.tool("gcc"), f"/usr/{arch.gnu}/lib/libc.a"]
            )
            raise


def _add_keys(root: Path, keys: Keys) -> None:
    (root / "etc/dropbear/host_key").write_bytes(keys.host.dropbear)
    (root / "root/.ssh").mkdir()
    (root / "root/.ssh/authorized_keys").write_text(f"{keys.login.public_line}\n")


def _pack(root: Path, image: Path) -> None:
    mkfs = require("mkfs.erofs")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)  # independent of the umask, also of that of the checkout
    command: list[str | Path] = [mkfs, "-T0", f"-U{_UUID}", "-x-1", "--all-root", image, root]
    process.check(command, cwd=image.parent, timeout_s=120, quoted=_QUOTED)

# SPDX-License-Identifier: GPL-2.0-only
"""Puts the root file system together in a directory and packs it into an erofs image, the same bytes for the same
inputs and keys."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.errors import HarnessError
from harness.image import command, packages
from harness.image.keys import Key
from harness.image.recipe import INIT, ROOTFS, Recipe

# Mount points, and the links of a merged /usr.
_DIRECTORIES = ("dev", "kernel", "proc", "root", "run", "sys", "tmp", "var", "etc/dropbear")
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
_CFLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-Wl,--build-id=none")
_UUID = "76666966-6f00-4000-8000-000000000001"  # any will do, if it is always the same


def assemble(recipe: Recipe, scratch: Path, login: Key, host: Key, image: Path) -> None:
    """Build the image; ``scratch`` is a new directory, private for the keys in it, that the caller removes."""
    unpacked, root = scratch / "unpacked", scratch / "root"
    packages.unpack(recipe, unpacked)
    packages.select(recipe, unpacked, root)
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True, exist_ok=True)
    _link(root, _LINKS)
    shutil.copytree(ROOTFS / "overlay", root, dirs_exist_ok=True)
    _add_applets(root)
    _compile_programs(root)
    _compile_bytecode(root)
    _add_keys(root, login, host)
    _pack(root, image)


def _link(root: Path, links: Mapping[str, str]) -> None:
    for name, target in links.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _add_applets(root: Path) -> None:
    """busybox under every name it answers to that no other program has."""
    for applet in command.run([root / "usr/bin/busybox", "--list"], timeout_s=10).split():
        if not any((root / place / applet).exists() for place in ("usr/bin", "usr/sbin")):
            (root / "usr/bin" / applet).symlink_to("busybox")


def _compile_programs(root: Path) -> None:
    compiler = command.require("gcc", "gcc")
    for source, name in _PROGRAMS.items():
        program = root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            command.run([compiler, *_CFLAGS, "-o", program, INIT / source], timeout_s=120)
        except HarnessError as error:
            error.hint = error.hint or "sudo apt-get install gcc libc6-dev"
            raise


def _compile_bytecode(root: Path) -> None:
    """Byte code beside each module, as maintainer scripts would; by the guest's own interpreter, and never checked."""
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next((root / "usr/lib64").iterdir())
    python = (loader, "--library-path", libraries, root / "usr/bin/python3.13", "-S")
    paths = ("-s", root, "-p", "/", root / "usr/lib")
    command.run(
        [*python, "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", *paths],
        timeout_s=300,
        env={"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _add_keys(root: Path, login: Key, host: Key) -> None:
    (root / "etc/dropbear/host_key").write_bytes(host.dropbear)
    (root / "root/.ssh").mkdir()
    (root / "root/.ssh/authorized_keys").write_text(f"{login.public_line}\n")


def _pack(root: Path, image: Path) -> None:
    mkfs = command.require("mkfs.erofs", "erofs-utils")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)  # whatever our umask is, and that of the checkout was
    command.run([mkfs, "-T0", f"-U{_UUID}", "-x-1", "--all-root", image, root], timeout_s=120)

# SPDX-License-Identifier: GPL-2.0-only
"""The kernel and the initramfs of the emulated machine: made once from Debian packages, cached by their inputs.

Its init is no part of them: it comes with each run (harness/nested/job.py), so a change of it fetches nothing.
"""

import gzip
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.host import process
from harness.host.files import disk_full_reported, fresh_dir, locked, require_free_space
from harness.host.held import mark_used
from harness.host.packages import require
from harness.host.unpack import Archive, unpack
from harness.nested import initramfs
from harness.nested.recipe import Packages
from harness.paths import cache_dir
from harness.progress import Emit, phase

ROOM = 1 << 30
"""Bytes needed to fetch and unpack: 120 MB of packages, 470 MB unpacked. 20 MB stay."""
_MOUNT_POINTS = ("dev", "etc", "modules", "proc", "root", "sbin", "sys", "usr", "var")
_LEVEL = 6


@dataclass(frozen=True)
class OuterImage:
    """What the emulated machine boots."""

    kernel: Path
    initrd: Path


def obtain(outer: Packages, emit: Emit) -> OuterImage:
    """Return the image, from the cache or made now (30 s; 120 MB of packages).

    Raises HarnessError if the archive cannot be reached, MissingPrerequisite without mmdebstrap, depmod or its keys.
    """
    cache = cache_dir() / "nested"
    cache.mkdir(exist_ok=True)
    entry = cache / _key(outer)
    if not entry.is_dir():
        with (
            phase(emit, "outer machine", f"from Debian {outer.suite}") as step,
            locked(cache / "lock", "the outer machine", step),
            disk_full_reported(),
        ):
            if not entry.is_dir():  # another run may have made it meanwhile
                require_free_space(ROOM)
                with fresh_dir(entry) as partial:
                    scratch = partial / "scratch"
                    scratch.mkdir()
                    archive = Archive(outer.suite, [f"{outer.mirror} {outer.suite} main"], outer.keyring)
                    unpack(archive, outer.packages, scratch / "root", "the outer machine's packages", step)
                    step.progress("packing")
                    step.result = f"kernel {_make(outer, scratch / 'root', partial)}"
                    shutil.rmtree(scratch)
    found = OuterImage(entry / "vmlinuz", entry / "initrd")
    mark_used(entry, found)
    return found


def cached() -> list[Path]:
    """Return the directory of each image in the cache. Its modification time is that of its latest use."""
    return sorted(path.parent for path in (cache_dir() / "nested").glob("[!.]*/initrd"))


def _key(outer: Packages) -> str:
    code = [Path(module).read_bytes() for module in (__file__, initramfs.__file__)]
    return hashlib.sha256(b"\0".join([outer.model_dump_json().encode(), *code])).hexdigest()[:16]


def _make(outer: Packages, unpacked: Path, target: Path) -> str:
    """Write kernel and initramfs. Returns the kernel's release."""
    kernels = list((unpacked / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise HarnessError(f"the outer machine's packages contain {len(kernels)} kernels, not one")
    release = kernels[0].name.removeprefix("vmlinuz-")
    shutil.copyfile(kernels[0], target / "vmlinuz")
    root = target / "scratch" / "initramfs"
    for name in _MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    for name in ("bin/busybox", "usr/bin/busybox"):
        if (unpacked / name).is_file():
            shutil.copy(unpacked / name, root / "sbin" / "busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    for number, module in enumerate(modules(unpacked, release, outer.modules)):
        shutil.copyfile(module, root / "modules" / f"{number:03}-{module.name}")
    (target / "initrd").write_bytes(gzip.compress(initramfs.pack_tree(root), _LEVEL, mtime=0))
    return release


def modules(root: Path, release: str, names: list[str]) -> list[Path]:
    """Return the files of the modules ``names`` and of all that they need, each after those that it needs.

    A name without a file is built in. Raises HarnessError for one that the kernel does not have at all.
    """
    process.check([require("depmod"), "-b", root, release], cwd=root, timeout_s=120)
    top = root / "lib" / "modules" / release
    needs = {}
    for line in (top / "modules.dep").read_text().splitlines():
        file, _, needed = line.partition(":")
        needs[file] = needed.split()
    files = {_module_name(file): file for file in needs}
    built_in = {_module_name(line) for line in (top / "modules.builtin").read_text().splitlines()}
    found: dict[str, None] = {}
    for name in names:
        if name in files:
            # modules.dep lists what a module needs in the reverse order of loading.
            found |= dict.fromkeys([*reversed(needs[files[name]]), files[name]])
        elif name not in built_in:
            raise HarnessError(f"kernel {release} has no module {name}", hint="see outer: in vm-configs/kvm-test.yaml")
    if packed := [file for file in found if not file.endswith(".ko")]:
        raise HarnessError(f"kernel {release} has compressed modules: {packed[0]}")
    return [top / file for file in found]


def _module_name(file: str) -> str:
    return Path(file).name.partition(".")[0].replace("-", "_")

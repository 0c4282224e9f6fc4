# SPDX-License-Identifier: GPL-2.0-only
"""From KERNEL= to a kernel that is ready to boot."""

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import KernelBuildError, UsageError
from harness.host.files import disk_full_reported, fresh_dir
from harness.kernel import features, replaced, uapi
from harness.kernel.build import kconfig, patched_tree, tree
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.model import Flavour, Kernel, KernelSpec, RxeSupport
from harness.kernel.modules import image as modules
from harness.kernel.modules import importer, oot, rxe
from harness.kernel.modules.oot import RELEASE, Built
from harness.kernel.source.change import SourceChange
from harness.kernel.source.resolve import BuildDirectory, SourceTree, resolve_kernel
from harness.progress import Emit, Phase, phase

IMAGE = "arch/x86/boot/bzImage"
_KEEP_S = 14 * 24 * 3600
"""A kernel nobody has booted for so long is removed from ``ready/``."""


class _Record(BaseModel):
    """What is known of a ready kernel besides its files and its build directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rxe: RxeSupport
    importer_absent: str


def obtain(spec: KernelSpec, emit: Emit) -> Kernel:
    """Fetch, configure and build what ``spec`` names, as far as that is not done yet.

    Raises UsageError (KERNEL= names nothing we know), KernelBuildError (with the compiler's first error),
    KernelLacksFeature (no dma-buf export, or options missing), MissingPrerequisite, HarnessError."""
    found = resolve_kernel(spec.kernel, emit)
    if spec.change is not None:
        return _obtain_changed(found, spec.flavour, spec.change, emit)
    build_dir = found.path if isinstance(found, BuildDirectory) else tree.build_dir_of(found, spec.flavour)
    with (
        phase(emit, "kernel", found.origin) as step,
        locked(oot.work_of(build_dir), step),
        disk_full_reported(),
    ):
        top: Path | None
        if isinstance(found, BuildDirectory):
            top = found.source
            _check_build_dir(found)
        else:
            top = tree.build(found, spec.flavour, build_dir, step)
        kernel = _ready(found.origin, build_dir, top, step)
        step.result = ", ".join(filter(None, [kernel.release, step.result]))
        return _in_use(kernel)


def _obtain_changed(found: SourceTree | BuildDirectory, flavour: Flavour, change: SourceChange, emit: Emit) -> Kernel:
    if isinstance(found, BuildDirectory):
        raise UsageError(
            f"{found.origin} is a build directory, which is used as it is: {change.name} needs a source",
            hint="KERNEL= the source tree that it was built from" + (f": {found.source}" if found.source else ""),
        )
    there = patched_tree.workspace_of(found, flavour)
    with phase(emit, "kernel", change.name) as step, locked(there, step), disk_full_reported():
        changed, build_dir = patched_tree.prepare(found, flavour, change, step)
        top = tree.build(changed, flavour, build_dir, step)
        kernel = _ready(changed.origin, build_dir, top, step)
        for entry in kernel.image.parent.parent.glob(f"{_owner(build_dir)}-*"):
            if entry != kernel.image.parent:  # of an earlier change: its objects are gone, so nobody finds it again
                _remove_unused(entry)
        step.result = ", ".join(filter(None, [kernel.release, step.result]))
        return _in_use(replace(kernel, patches=tuple(change.patches)))


def build_module(kernel: Kernel, directory: Path, emit: Emit) -> list[Path]:
    """Build an out-of-tree module of ours (a directory with a Kbuild Makefile) against ``kernel``; returns its .ko
    files. Raises KernelBuildError if it does not compile, or the kernel's source is gone."""
    if kernel.source_dir is None:
        raise KernelBuildError(f"{directory.name}: the source of {kernel.origin} is not to be found")
    work = oot.work_of(kernel.build_dir)
    with phase(emit, "kernel module", directory.name) as step, locked(work, step):
        built = Built(kernel.source_dir, oot.original_of(kernel.build_dir), work)
        return oot.build(built, directory.name, oot.sources_in(directory), step)


def with_modules(kernel: Kernel, instead: Mapping[str, Path], directory: Path, emit: Emit) -> Kernel:
    """``kernel`` with these modules, by their names, in place of its own. ``directory``, which is made, is a build
    directory of links that KERNEL= takes too. Raises KernelError if ``kernel`` has no such module."""
    replaced.make(kernel.build_dir, instead, directory)
    return obtain(KernelSpec(str(directory)), emit)


def _check_build_dir(found: BuildDirectory) -> None:
    needed = {IMAGE: "bzImage", RELEASE: "bzImage", "System.map": "bzImage", "modules.order": "modules"}
    for name, target in needed.items():
        if not (found.path / name).is_file():
            raise UsageError(f"{found.origin} has no {name}: not built yet?", hint=f"make -C {found.path} {target}")
    config = kconfig.read(found.path / ".config")
    features.require_export(config, uapi.read(found.source), found.origin)
    kconfig.require(config, found.origin)


def _ready(origin: str, build_dir: Path, top: Path | None, step: Phase) -> Kernel:
    """The bootable copy of a build, made anew if the build or our additions have changed since."""
    config = kconfig.read(build_dir / ".config")
    release = (build_dir / RELEASE).read_text().strip()
    entry = cache_path("ready", f"{_owner(build_dir)}-{_signature(build_dir)}")
    record = entry / "record.json"
    if not record.exists():
        built = Built(top, oot.original_of(build_dir), oot.work_of(build_dir)) if top else None
        support, module = rxe.build(built, config, step)
        absent, ours = importer.build(built, step)
        step.progress("modules image")
        with fresh_dir(entry) as tmp:
            shutil.copyfile(build_dir / IMAGE, tmp / "bzImage")
            modules.pack(
                build_dir, release, config, ours | ({"rdma_rxe": module} if module else {}), tmp / "modules.erofs"
            )
            (tmp / "record.json").write_text(_Record(rxe=support, importer_absent=absent).model_dump_json())
        _prune(entry.parent)
    entry.touch()
    known = _Record.model_validate_json(record.read_text())
    contract = uapi.read(top)
    return Kernel(
        image=entry / "bzImage",
        modules_image=entry / "modules.erofs",
        release=release,
        origin=origin,
        config=config,
        config_hash=digest(*(f"{name}={value}" for name, value in sorted(config.items()))),
        patches=(),
        features=features.detect(config, top, contract, known.rxe, known.importer_absent),
        source_dir=top,
        build_dir=build_dir,
        rxe=known.rxe,
        importer_absent=known.importer_absent,
        uapi=contract,
    )


def _signature(build_dir: Path) -> str:
    """Names this state of a build: size and date of all that is packed. The kernel's own rdma_rxe.ko among it is
    rebuilt whenever a header that ours includes has changed."""
    names = [IMAGE, ".config", "System.map", *modules.listed(build_dir)]
    stats = ((name, (build_dir / name).stat()) for name in names if (build_dir / name).exists())
    recipe = (path.read_bytes() for path in [*rxe.recipe_files(), *importer.recipe_files()])
    data = (kconfig.DATA / "requirements.yaml").read_bytes()
    return digest(str(build_dir), *(f"{n} {s.st_size} {s.st_mtime_ns}" for n, s in stats), *recipe, data)


def _owner(build_dir: Path) -> str:
    """The part of an entry's name that all entries of one build have in common."""
    return digest(str(build_dir))[:8]


def _in_use(kernel: Kernel) -> Kernel:
    """Keep other processes from removing its files for as long as ``kernel`` lives here: a run boots it many times."""
    handle = os.open(kernel.image.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    weakref.finalize(kernel, os.close, handle)
    return kernel


def _prune(ready: Path) -> None:
    for entry in ready.iterdir():
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - entry.stat().st_mtime > _KEEP_S:
                _remove_unused(entry)


def _remove_unused(entry: Path) -> None:
    handle = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(handle)

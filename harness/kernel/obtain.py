# SPDX-License-Identifier: GPL-2.0-only
"""Obtain a kernel that is ready to boot from KERNEL=."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.config import ArchName, Model, arch_of, architecture
from harness.errors import UsageError
from harness.host.files import disk_full_reported, fresh_dir
from harness.host.held import hold, remove_unless_held
from harness.kernel.build import features, kbuild, kconfig, patched_tree, provenance, reuse, tree
from harness.kernel.cache import cache_path, digest, locked
from harness.kernel.model import Flavour, Kernel, KernelSpec, RxeSupport, SourceChange
from harness.kernel.modules import image, importer, rxe
from harness.kernel.modules.oot import BuiltKernel
from harness.kernel.source.resolve import BuildDirectory, SourceTree, resolve_kernel
from harness.kernel.source.series import sent_patches
from harness.kernel.source.uapi import read_export
from harness.progress import Emit, Phase, phase

_COMPILED = "the kernel is compiled"
_KEEP_S = 14 * 24 * 3600
"""A kernel that no run has booted for this long is removed from ``ready/``."""


OWNER_DIGITS = 8
"""Hex digits that begin the name of each entry in ``ready/``: ``owner_of``."""


class _Record(Model):
    """What ``record.json`` keeps of a bootable kernel besides its files and its build directory."""

    rxe: RxeSupport
    """How rxe supports dma-buf MRs."""
    importer_absent: str
    """Why there is no test importer; empty if there is one."""


def obtain(spec: KernelSpec, emit: Emit) -> Kernel:
    """Fetch, configure and build the kernel of ``spec``, unless the cache has it.

    Raises UsageError (KERNEL= names no kernel), KernelBuildError (with the compiler's first error),
    KernelLacksFeature (no dma-buf export, or options missing), MissingPrerequisite, HarnessError."""
    found = resolve_kernel(spec.kernel, emit)
    if isinstance(found, SourceTree):
        found = replace(found, arch=spec.arch)
    if spec.change is not None:
        return _obtain_changed(found, spec.flavour, spec.change, spec.workspace, emit)
    build_dir = found.path if isinstance(found, BuildDirectory) else tree.build_dir_of(found, spec.flavour)
    with phase(emit, "kernel", found.origin) as step, tree.lock_build(build_dir, step), disk_full_reported():
        top: Path | None
        if isinstance(found, BuildDirectory):
            top = found.source
            _check_build_dir(found, spec.arch)
        else:
            if not found.pristine:
                reuse.start_from_nearest_build(found, spec.flavour, step)
            top = tree.build(found, spec.flavour, build_dir, step)
            step.done(_COMPILED)
        kernel = _bootable(found.origin, build_dir, top, step)
        step.result = ", ".join(filter(None, [kernel.release, step.result]))
        return _in_use(_from(kernel, found))


def _obtain_changed(
    found: SourceTree | BuildDirectory, flavour: Flavour, change: SourceChange, name: str, emit: Emit
) -> Kernel:
    if isinstance(found, BuildDirectory):
        raise UsageError(
            f"{found.origin} is a build directory, which is used as is: {change.name} needs a source",
            hint="KERNEL= the source tree that it was built from" + (f": {found.source}" if found.source else ""),
        )
    workspace = patched_tree.workspace_of(found, flavour, name)
    with phase(emit, "kernel", change.name) as step, locked(workspace, step), disk_full_reported():
        changed, build_dir = patched_tree.prepare(found, flavour, change, workspace, step)
        step.done("the change is applied")
        top = tree.build(changed, flavour, build_dir, step)
        step.done(_COMPILED)
        kernel = _bootable(changed.origin, build_dir, top, step)
        for entry in kernel.image.parent.parent.glob(f"{owner_of(build_dir)}-*"):
            if entry != kernel.image.parent:  # of an earlier change: its objects are gone, so no run can find it again
                remove_unless_held(entry)
        step.result = ", ".join(filter(None, [kernel.release, step.result]))
        patches, series = tuple(change.patches), sent_patches(change)
        return _in_use(replace(_from(kernel, found), patches=patches, series=series, base_dir=found.path))


def _from(kernel: Kernel, found: SourceTree | BuildDirectory) -> Kernel:
    """Add where the source comes from. A build directory may be of another commit than its source has now."""
    return replace(kernel, git=found.git, source_lock=found.lock) if isinstance(found, SourceTree) else kernel


def _check_build_dir(found: BuildDirectory, arch: ArchName) -> None:
    config = kconfig.read(found.path / ".config")
    if arch_of(config) != arch:
        raise UsageError(
            f"{found.origin} is a kernel for {arch_of(config)}, and the machine is {arch}",
            hint="choose with --machine; `vfio-harness machines` lists them",
        )
    target, image = architecture(arch).kernel.target, architecture(arch).kernel.image
    needed = {image: target, kbuild.RELEASE: target, "System.map": target, "modules.order": "modules"}
    for name, target in needed.items():
        if not (found.path / name).is_file():
            raise UsageError(f"{found.origin} has no {name}: not built yet?", hint=f"make -C {found.path} {target}")
    features.require_export(config, read_export(found.source), found.origin)
    kconfig.require(config, found.origin)


def _bootable(origin: str, build_dir: Path, top: Path | None, step: Phase) -> Kernel:
    """Return the bootable copy of a build; make a new one if the build or the harness's modules have changed since."""
    config = kconfig.read(build_dir / ".config")
    release = (build_dir / kbuild.RELEASE).read_text().strip()
    entry = cache_path("ready", f"{owner_of(build_dir)}-{_signature(build_dir, config)}")
    record = entry / "record.json"
    built_image = build_dir / architecture(arch_of(config)).kernel.image
    if not record.exists():
        built = BuiltKernel(top, build_dir.resolve(), tree.modules_dir_of(build_dir)) if top else None
        support, module = rxe.build(built, config, step)
        absent, modules = importer.build(built, step)
        step.progress("modules image")
        with fresh_dir(entry) as tmp:
            shutil.copyfile(built_image, tmp / built_image.name)
            if module:
                modules["rdma_rxe"] = module
            image.pack(build_dir, release, config, modules, tmp / "modules.erofs")
            (tmp / "record.json").write_text(_Record(rxe=support, importer_absent=absent).model_dump_json())
        _prune(entry.parent)
        step.done("the modules are packed")
    entry.touch()
    known = _Record.model_validate_json(record.read_text())
    uapi = read_export(top)
    return Kernel(
        image=entry / built_image.name,
        modules_image=entry / "modules.erofs",
        release=release,
        origin=origin,
        config=config,
        config_hash=digest(*(f"{name}={value}" for name, value in sorted(config.items()))),
        patches=(),
        features=features.detect(config, top, uapi, known.rxe, known.importer_absent, release=release),
        source_dir=top,
        build_dir=build_dir,
        rxe=known.rxe,
        importer_absent=known.importer_absent,
        uapi=uapi,
        build=provenance.keep(build_dir, entry),
    )


def _signature(build_dir: Path, config: Mapping[str, str]) -> str:
    """Return 16 hex digits that name this state of a build: size and date of each packed file.

    The kernel's own rdma_rxe.ko is among them: it is rebuilt when a header that the harness's one includes changes."""
    names = [architecture(arch_of(config)).kernel.image, ".config", "System.map", *image.listed(build_dir)]
    stats = ((name, (build_dir / name).stat()) for name in names if (build_dir / name).exists())
    recipe = (path.read_bytes() for path in [*rxe.recipe_files(), *importer.recipe_files()])
    data = kconfig.REQUIREMENTS.read_bytes()
    return digest(str(build_dir), *(f"{n} {s.st_size} {s.st_mtime_ns}" for n, s in stats), *recipe, data)


def owner_of(build_dir: Path) -> str:
    """Return the part of an entry's name that all entries of one build share."""
    return digest(str(build_dir))[:OWNER_DIGITS]


def _in_use(kernel: Kernel) -> Kernel:
    """Keep other processes from removing the files while ``kernel`` exists here: a run boots it many times."""
    hold(kernel.image.parent, kernel)
    return kernel


def _prune(ready: Path) -> None:
    for entry in ready.iterdir():
        with suppress(FileNotFoundError):  # another process removed it first
            if time.time() - entry.stat().st_mtime > _KEEP_S:
                remove_unless_held(entry)

# SPDX-License-Identifier: GPL-2.0-only
"""Pack the modules image: an erofs with the modules that a machine loads, their indexes and a load order."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.config import arch_of, architecture
from harness.errors import KernelError
from harness.host import process
from harness.kernel.build.kconfig import requirements

LOAD_ORDER = "load-order"
_INDEXES = ("modules.builtin", "modules.builtin.modinfo")


def name_of(path: str) -> str:
    """Return the module's name as lsmod shows it: kernel/drivers/vfio/pci/vfio-pci.ko is vfio_pci."""
    return Path(path).name.split(".", 1)[0].replace("-", "_")


def listed(build_dir: Path) -> list[str]:
    """Return the modules of a build, relative to it, in the order of modules.order (which lists .o since Linux 6.3)."""
    order = build_dir / "modules.order"
    if not order.is_file():
        return []
    return [str(Path(line).with_suffix(".ko")) for line in order.read_text().split()]


def parse_dep(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return each module's path from modules.dep, with the paths of all it depends on."""
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {module: deps.split() for module, deps in pairs}


def closure(deps: Mapping[str, Sequence[str]], names: Iterable[str]) -> list[str]:
    """Return the modules of these names and all they depend on, dependencies first.

    A name without a module (built in, or not configured) is left out."""
    by_name = {name_of(path): path for path in deps}
    ordered: dict[str, None] = {}

    def visit(path: str) -> None:
        if path not in ordered:
            for dep in deps[path]:
                visit(dep)
            ordered[path] = None

    for name in names:
        if name in by_name:
            visit(by_name[name])
    return list(ordered)


def pack(build_dir: Path, release: str, config: Mapping[str, str], instead: Mapping[str, Path], image: Path) -> None:
    """Write the erofs ``image`` with the modules of requirements.yaml.

    ``instead`` maps names to modules of the harness; each replaces the kernel's own of that name, if there is one.
    Raises KernelError if the build lacks a module."""
    wanted = requirements().modules
    with tempfile.TemporaryDirectory(dir=image.parent) as tmp:
        everything, packed = Path(tmp, "all"), Path(tmp, "packed")
        kos = {f"kernel/{ko}": build_dir / ko for ko in listed(build_dir) if name_of(ko) not in instead}
        kos |= {f"updates/{path.name}": path for path in instead.values()}
        for missing in (path for path in kos.values() if not path.is_file()):
            raise KernelError(f"{missing} is missing", hint=f"make -C {build_dir} modules")
        deps = _depmod(everything, build_dir, release, kos, link=True)
        chosen = closure(deps, [*wanted.boot, *wanted.on_demand])
        _depmod(packed, build_dir, release, {ko: kos[ko] for ko in chosen}, link=False)
        if "DEBUG_INFO" in config and chosen:
            process.check(
                [architecture(arch_of(config)).tool("strip"), "--strip-debug", *chosen],
                cwd=packed / "lib" / "modules" / release,
            )
        order = (f"lib/modules/{release}/{ko}\n" for ko in closure(deps, wanted.boot))
        (packed / LOAD_ORDER).write_text("".join(order))
        process.check(["mkfs.erofs", "-zlz4", "-T0", "--all-root", "--quiet", image, packed], cwd=image.parent)


def _depmod(top: Path, build_dir: Path, release: str, kos: Mapping[str, Path], *, link: bool) -> dict[str, list[str]]:
    """Fill lib/modules/<release> with these modules, index it, and return their dependencies."""
    tree = top / "lib" / "modules" / release
    tree.mkdir(parents=True)
    for name in _INDEXES:
        if (build_dir / name).is_file():
            shutil.copyfile(build_dir / name, tree / name)
    (tree / "modules.order").write_text("".join(f"{ko}\n" for ko in kos))
    for ko, path in kos.items():
        (tree / ko).parent.mkdir(parents=True, exist_ok=True)
        if link:
            os.symlink(path, tree / ko)  # noqa: PTH211 - target first, as in ln -s
        else:
            shutil.copyfile(path, tree / ko)
    process.check(["depmod", "-b", top, "-F", build_dir / "System.map", release], cwd=top)
    return parse_dep((tree / "modules.dep").read_text().splitlines())

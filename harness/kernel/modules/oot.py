# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules of our own, built against the kernel under test in a copy of their source."""

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import KernelBuildError
from harness.host.files import disk_full_reported, write_atomically
from harness.kernel.build import kbuild
from harness.kernel.cache import cache_path, digest
from harness.progress import Phase

RELEASE = "include/config/kernel.release"


@dataclass(frozen=True)
class Built:
    """A built kernel that modules can be built against; ``work`` is where their copies live."""

    source: Path
    build_dir: Path
    work: Path


def original_of(build_dir: Path) -> Path:
    """The build that one of ``ready.with_modules`` is made of; any other is its own. Our modules are built against that
    one: another path would rebuild them."""
    return (build_dir / RELEASE).resolve().parents[2]


def work_of(build_dir: Path) -> Path:
    """Where our own modules are built against this kernel. Its lock is the build's, too."""
    original = original_of(build_dir)
    return cache_path("external", f"{original.name}-{digest(str(original))}")


def sync(files: dict[str, Path], work: Path) -> None:
    """Make ``work`` hold exactly these sources, by name; what is unchanged keeps its date, so make leaves it alone."""
    work.mkdir(parents=True, exist_ok=True)
    listing = work / "harness-sources"
    old = set(listing.read_text().split("\n")) if listing.exists() else set()
    for name in old - files.keys():
        (work / name).unlink(missing_ok=True)
    for name, path in files.items():
        target = work / name
        if not target.exists() or not filecmp.cmp(path, target, shallow=False):
            shutil.copyfile(path, target)
    write_atomically(listing, "\n".join(sorted(files)))


def build(built: Built, name: str, files: dict[str, Path], step: Phase) -> list[Path]:
    """Build the modules of one directory of sources (a Kbuild Makefile among them); returns its .ko files.

    Raises KernelBuildError if they do not compile against this kernel."""
    work = built.work / name
    with disk_full_reported():
        sync(files, work)
    kbuild.build_external(built.build_dir, built.source, work, step)
    modules = sorted(work.glob("*.ko"))
    if not modules:
        raise KernelBuildError(f"{work} built no module", hint=f"the whole output: {work / 'harness-build.log'}")
    return modules


def sources_in(directory: Path) -> dict[str, Path]:
    """The sources of one directory, by name, without what Kbuild generates there."""
    kept = (
        p for p in sorted(directory.iterdir()) if p.suffix in (".c", ".h", ".S") or p.name in ("Makefile", "Kbuild")
    )
    return {p.name: p for p in kept if not p.name.endswith(".mod.c")}

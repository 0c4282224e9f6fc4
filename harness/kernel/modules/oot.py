# SPDX-License-Identifier: GPL-2.0-only
"""Out-of-tree modules of the harness, built against the kernel under test in a copy of their sources."""

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import KernelBuildError
from harness.host.files import disk_full_reported, write_atomically
from harness.kernel.build import kbuild
from harness.progress import Phase


@dataclass(frozen=True)
class BuiltKernel:
    """A built kernel that modules can be built against."""

    source: Path
    """The source that it was built from."""
    build_dir: Path
    """Its build directory."""
    work: Path
    """The directory for copies of module sources, one directory for each."""


def sync(files: dict[str, Path], work: Path) -> None:
    """Make ``work`` hold copies of exactly these sources, by name.

    An unchanged file keeps its date, so make does not build it again."""
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


def build(kernel: BuiltKernel, name: str, files: dict[str, Path], step: Phase) -> list[Path]:
    """Build the modules of one directory of sources (a Kbuild Makefile among them); return its .ko files.

    Raises KernelBuildError if they do not compile against this kernel."""
    work = kernel.work / name
    with disk_full_reported():
        sync(files, work)
    kbuild.build_external(kernel.build_dir, kernel.source, work, step)
    modules = sorted(work.glob("*.ko"))
    if not modules:
        raise KernelBuildError(f"{work} built no module", hint=f"the whole output: {work / 'harness-build.log'}")
    return modules


def sources_in(directory: Path) -> dict[str, Path]:
    """Return the sources of one directory, by name, without the files that Kbuild generates there."""
    sources = [path for path in sorted(directory.iterdir()) if path.suffix in (".c", ".h", ".S")]
    makefiles = [directory / name for name in ("Makefile", "Kbuild") if (directory / name).exists()]
    return {path.name: path for path in [*sources, *makefiles] if not path.name.endswith(".mod.c")}

# SPDX-License-Identifier: GPL-2.0-only
"""Unpack Debian packages and copy the files that the recipe keeps."""

import os
import re
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import HarnessError
from harness.host import process
from harness.host import unpack as host
from harness.host.packages import require
from harness.host.unpack import Archive
from harness.image.recipe import Recipe

_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(.+)\]|Requesting program interpreter: (/[^\]]+)\]")


def unpack(recipe: Recipe, architecture: str, target: Path) -> None:
    """Fetch the packages and their dependencies, and unpack them. Raises what ``harness.host.unpack`` raises.

    ``architecture``: Debian's name."""
    sources = [f"{recipe.mirror} {recipe.suite} main"]
    archive = Archive(recipe.suite, sources, recipe.keyring, architecture=architecture)
    host.unpack(archive, recipe.packages, target, "the guest image's packages")


class Selection:
    """The paths of an unpacked tree that the recipe keeps, with all that these need."""

    def __init__(self, root: Path, drop: Iterable[str]) -> None:
        self.root = root
        self._drop = list(drop)
        self.paths: set[Path] = set()

    def keep(self, pattern: str) -> None:
        """Keep the paths that match the pattern. Raises HarnessError if there are none."""
        matches = list(self.root.glob(pattern))
        if (self.root / pattern).is_symlink():  # glob follows an absolute link out of the root, and may find nothing
            matches = [self.root / pattern]
        if not matches:
            raise HarnessError(f"rootfs.yaml: keep: {pattern!r} matches nothing in the unpacked packages")
        for match in matches:
            self._add(match)

    def _add(self, path: Path) -> None:
        relative = path.relative_to(self.root)
        if relative in self.paths or any(fnmatchcase(str(relative), pattern) for pattern in self._drop):
            return
        self.paths.add(relative)
        if path.is_symlink():
            self._add(self._target(path))
        elif path.is_dir():
            for child in path.iterdir():
                self._add(child)

    def _target(self, link: Path) -> Path:
        to = link.readlink()
        path = self.root / to.relative_to("/") if to.is_absolute() else Path(os.path.normpath(link.parent / to))
        if not path.is_relative_to(self.root) or not (path.is_symlink() or path.exists()):
            raise HarnessError(f"guest image: {link.relative_to(self.root)} points to {to}, which no package contains")
        return path

    def keep_libraries(self) -> None:
        """Keep the shared libraries and the program interpreter that the kept programs and their libraries need."""
        readelf = require("readelf")
        libraries = {p.name: p for p in sorted(self.root.glob("usr/lib/*-linux-gnu/*.so*"))}
        seen: set[Path] = set()
        while new := {p for p in self.paths - seen if _is_elf(self.root / p)}:
            seen |= new
            command: list[str | Path] = [readelf, "-dlW", *sorted(self.root / p for p in new)]
            output = process.check(command, cwd=self.root, timeout_s=60)
            for name, interpreter in _NEEDED.findall("\n".join(output)):
                if interpreter:
                    self._add(self.root / "usr" / interpreter.lstrip("/"))
                elif name in libraries:
                    self._add(libraries[name])
                else:
                    raise HarnessError(
                        f"guest image: no package contains {name}, which one of {len(new)} programs needs"
                    )

    def copy(self, target: Path) -> None:
        """Copy the selection to the directory ``target``."""
        for relative in sorted(self.paths):
            source, copy = self.root / relative, target / relative
            if source.is_dir() and not source.is_symlink():
                copy.mkdir(parents=True, exist_ok=True)
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def select(recipe: Recipe, unpacked: Path, target: Path) -> None:
    """Copy the files of ``unpacked`` that the recipe keeps to ``target``."""
    selection = Selection(unpacked, recipe.drop)
    for pattern in recipe.keep:
        selection.keep(pattern)
    selection.keep_libraries()
    selection.copy(target)

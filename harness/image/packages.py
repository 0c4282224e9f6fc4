# SPDX-License-Identifier: GPL-2.0-only
"""Unpack Debian packages and copy the files that the recipe keeps. No root, no chroot, no maintainer scripts."""

import os
import re
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite
from harness.host import process
from harness.host.packages import install_line, require
from harness.image.recipe import Recipe

_DOWNLOAD_TIMEOUT_S = 600.0
_QUOTED = 8
"""Lines of a failed mmdebstrap that the error quotes."""
_UNREACHABLE = re.compile(r"Could not (resolve|connect)|Temporary failure|Unable to connect|timed out")
_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(.+)\]|Requesting program interpreter: (/[^\]]+)\]")


def unpack(recipe: Recipe, target: Path) -> None:
    """Fetch the packages and their dependencies, with apt in mmdebstrap's own state directory, and unpack them.

    Raises HarnessError if the mirror cannot be reached; MissingPrerequisite without mmdebstrap or the archive's keys.
    """
    mmdebstrap = require("mmdebstrap")
    if not Path(recipe.keyring).exists():
        raise MissingPrerequisite(
            f"{recipe.keyring}: the Debian archive's keys are missing",
            hint=install_line([recipe.keyring]),
        )
    temporary = target.with_name("tmp")  # a killed mmdebstrap leaves files there
    temporary.mkdir()
    source = f"deb [signed-by={recipe.keyring}] {recipe.mirror} {recipe.suite} main"
    lines: list[str] = []
    try:
        process.check(
            [
                mmdebstrap,
                "--variant=extract",
                "--mode=chrootless",  # needs no privilege; extract runs no maintainer scripts ...
                "--skip=check/chrootless",  # ... so root may use it too
                "--format=directory",
                "--architectures=amd64",
                '--aptopt=Apt::Install-Recommends "false"',
                f"--include={','.join(recipe.packages)}",
                recipe.suite,
                target,
                source,
            ],
            cwd=target.parent,
            timeout_s=_DOWNLOAD_TIMEOUT_S,
            env=process.environment(TMPDIR=str(temporary)),
            on_line=lines.append,
            quoted=_QUOTED,
        )
    except HarnessError as error:
        if any(map(_UNREACHABLE.search, lines)):
            raise HarnessError(
                f"the guest image's packages cannot be fetched: {error}",
                hint=f"check the network: {recipe.mirror} must be reachable once; http_proxy is honoured",
            ) from error
        raise


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

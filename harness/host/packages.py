# SPDX-License-Identifier: GPL-2.0-only
"""The programs and files that the host needs, and the Debian package of each: packages.txt, which documents itself."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import MissingPrerequisite

TABLE = Path(__file__).with_name("packages.txt")
_SBIN = "/usr/sbin:/sbin"
_BUILD_TOOLS = (
    "make", "gcc", "ld", "flex", "bison", "bc", "lz4", "gelf.h", "libelf.h", "depmod", "mkfs.erofs", "patch", "find"
)  # fmt: skip
_CHECKED_BY_VM = "qemu-system-x86_64"
"""``harness.vm.prerequisites`` checks QEMU: its version, and that of --qemu."""


@dataclass(frozen=True)
class Package:
    """One line of packages.txt."""

    name: str
    """The Debian package."""
    when: str
    """``needed``, ``optional``, ``bugs``, ``test``, ``manual``, or the name of an architecture."""
    used: tuple[str, ...]
    """The programs, headers, static libraries and files that the harness uses."""
    reason: str
    """What it is for; for all but ``needed``, what is lost without it."""


@dataclass(frozen=True)
class Prerequisite:
    """One program or file of the table, as ``vfio-harness doctor`` reports it."""

    name: str
    """The program, header, library or path."""
    package: str
    """The Debian package that contains it."""
    present: bool
    optional: str = ""
    """What is lost without it; empty if every run needs it."""


@cache
def packages() -> tuple[Package, ...]:
    """Read packages.txt, once."""
    lines = (line.split(maxsplit=3) for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(
        Package(name, when, tuple(used.split(",")) if used != "-" else (), reason) for name, when, used, reason in lines
    )


def find(program: str) -> str | None:
    """Return the program's path. Searches /usr/sbin too: depmod and mkfs are there, and a user's PATH may lack it."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def require(program: str) -> str:
    """Return the program's path. Raises MissingPrerequisite with the line that installs it."""
    path = find(program)
    if path is None:
        raise MissingPrerequisite(f"{program} is not installed", hint=install_line([program]))
    return path


def install_line(names: Iterable[str]) -> str:
    """Return the command that installs the packages of these programs and files."""
    owners = {used: package.name for package in packages() for used in package.used}
    return "apt-get install " + " ".join(sorted({owners.get(name, name) for name in names}))


def prerequisites(foreign: str = "") -> list[Prerequisite]:
    """Check every program and file of the table.

    ``foreign``: the architecture of the machine, if this host cannot run its programs. Its packages are then needed."""
    needed = ("needed", foreign)
    return [
        Prerequisite(used, package.name, _is_present(used), "" if package.when in needed else package.reason)
        for package in packages()
        for used in package.used
        if used != _CHECKED_BY_VM
    ]


def require_build_tools(compiler: str = "gcc") -> None:
    """Raise MissingPrerequisite that lists all that a kernel build lacks, and the one line that installs it.

    ``compiler``: the kernel's; gcc also builds the programs of the build itself."""
    require_present([*_BUILD_TOOLS, compiler], "a kernel build needs")


def require_present(names: Iterable[str], what: str) -> None:
    """Raise MissingPrerequisite that lists the files of the table that the host lacks, and the line that installs them.

    ``what``: the start of the message, e.g. ``a kernel build needs``."""
    missing = [name for name in dict.fromkeys(names) if not _is_present(name)]
    if missing:
        raise MissingPrerequisite(f"{what} {', '.join(missing)}", hint=install_line(missing))


def _is_present(name: str) -> bool:
    if name.startswith("/"):
        return Path(name).is_file()
    if name.endswith(".h"):
        return _gcc("-E", "-include", name, "-x", "c", "/dev/null") is not None
    if name.endswith(".a"):
        return Path((_gcc(f"-print-file-name={name}") or "").strip()).is_absolute()  # gcc prints the bare name of none
    return find(name) is not None


def _gcc(*args: str) -> str | None:
    """Return what gcc prints; None if it fails or is missing."""
    gcc = find("gcc")
    if gcc is None:
        return None
    result = subprocess.run([gcc, *args], capture_output=True, text=True, check=False, timeout=30)
    return result.stdout if result.returncode == 0 else None

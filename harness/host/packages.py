# SPDX-License-Identifier: GPL-2.0-only
"""What the host needs to get and build a kernel, and the Debian package each comes from."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingPrerequisite


@dataclass(frozen=True)
class Prerequisite:
    """One program, header or file. ``optional`` says what is lost without it; empty: it is needed."""

    name: str
    package: str
    present: bool
    optional: str = ""


_PROGRAMS = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "lz4": "lz4",
    "xz": "xz-utils",
    "tar": "tar",
    "patch": "patch",
    "find": "findutils",
    "setpriv": "util-linux",
    "depmod": "kmod",
    "mkfs.erofs": "erofs-utils",
}
_HEADERS = {"gelf.h": "libelf-dev", "libelf.h": "libelf-dev"}
_OPTIONAL = {
    "apt-get": ("apt", "KERNEL=debian:... and the default kernel"),
    "dpkg-deb": ("dpkg", "KERNEL=debian:... and the default kernel"),
    "git": ("git", "source trees that were built in place, and bisect"),
    "ccache": ("ccache", "faster rebuilds"),
    "b4": ("b4", "SERIES= by a message-id"),
    "spatch": ("coccinelle", "bugs put back: MUTATION=, repro, mutants"),
}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SBIN = "/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """The program's path; /usr/sbin is searched too, where a user's PATH leaves out depmod and mkfs."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def install_line(names: Iterable[str]) -> str:
    """The command that installs what these programs and headers come from."""
    packages = {**_PROGRAMS, **_HEADERS, **{n: p for n, (p, _) in _OPTIONAL.items()}}
    return "apt-get install " + " ".join(sorted({packages.get(name, name) for name in names}))


def prerequisites() -> list[Prerequisite]:
    """Everything, present or not, for ``vfio-harness doctor``."""
    needed = [Prerequisite(n, p, find(n) is not None) for n, p in _PROGRAMS.items()]
    headers = [Prerequisite(n, p, _compiles(n)) for n, p in _HEADERS.items()]
    optional = [Prerequisite(n, p, find(n) is not None, lost) for n, (p, lost) in _OPTIONAL.items()]
    lost = "KERNEL=debian:... and the default kernel"
    keyring = Prerequisite(_KEYRING, "debian-archive-keyring", Path(_KEYRING).is_file(), lost)
    return [*needed, *headers, *optional, keyring]


def require_build_tools() -> None:
    """Raises MissingPrerequisite that names all that is missing for a build, and one line that installs it."""
    missing = [p.name for p in prerequisites() if not p.present and not p.optional]
    if missing:
        raise MissingPrerequisite(f"a kernel build needs {', '.join(missing)}", hint=install_line(missing))


def _compiles(header: str) -> bool:
    if find("gcc") is None:
        return False
    args = ["gcc", "-E", "-include", header, "-x", "c", "/dev/null"]
    return subprocess.run(args, capture_output=True, check=False, timeout=30).returncode == 0

# SPDX-License-Identifier: GPL-2.0-only
"""Resolve KERNEL= to a source tree or a build directory."""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.config import DEFAULT_ARCH, ArchName
from harness.errors import UsageError
from harness.kernel.cache import digest
from harness.kernel.model import GitCommit
from harness.kernel.source import commit, debian, git
from harness.progress import Emit

ACCEPTED = f"KERNEL= takes a source tree, a build directory, debian:VERSION such as debian:7.3, {commit.FORMS}"
_PARTS = re.compile(r"^(?:VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) =[ \t]*(\S*)$", re.M)
_INCLUDE = re.compile(r"^include\s+(\S+)/Makefile$", re.M)


@dataclass(frozen=True)
class SourceTree:
    """A source tree to build."""

    path: Path
    """Its directory."""
    origin: str
    """Where it comes from, for messages."""
    key: str
    """Names its build directory in the cache."""
    pristine: bool
    """Whether it never changes."""
    arch: ArchName = DEFAULT_ARCH
    """The architecture to build it for."""
    symlinked: bool = False
    """Whether its files are links to those of another tree."""
    git: GitCommit | None = None
    """Its commit; None if it is not from git."""
    counted: tuple[str, ...] = ()
    """Sources of which FLAVOUR=coverage counts the lines, besides those of the kernel's path: what a change touches."""
    lock: object = None
    """Nobody changes the files while it exists, if they are a checkout of the cache."""


@dataclass(frozen=True)
class BuildDirectory:
    """A finished build, used as is."""

    path: Path
    """Its directory."""
    origin: str
    """Where it comes from, for messages."""
    source: Path | None
    """The source that it was built from; None if it cannot be found."""


def resolve_kernel(kernel: str | None, emit: Emit) -> SourceTree | BuildDirectory:
    """Find the source tree or build directory of KERNEL= (None or empty: the default).

    Fetches Debian's source, and checks out a git commit. Raises UsageError if KERNEL= names none of these."""
    if not kernel or kernel.startswith("debian:"):
        package, path = debian.obtain(kernel.removeprefix("debian:") if kernel else None, emit)
        return SourceTree(
            path, f"debian:{package.upstream} ({package.name} {package.version})", package.dirname, pristine=True
        )
    if named := commit.parse(kernel):
        found, checkout = commit.obtain(named, emit)
        origin = f"{named.name} at {found.commit[: git.SHORT]}"
        return SourceTree(checkout.path, origin, checkout.key, pristine=False, git=found, lock=checkout.lock)
    path = Path(kernel).expanduser().absolute()
    if not path.is_dir():
        raise UsageError(f"KERNEL={kernel}: no such directory", hint=ACCEPTED)
    if (path / "Kconfig").is_file() and (path / "Kbuild").is_file():
        real = path.resolve()
        key = re.sub(r"[^\w.-]", "_", real.name)[:40] + "-" + digest(str(real))
        checked_out = git.checked_out(real)
        at = f" at {checked_out.commit[: git.SHORT]}" if checked_out else ""
        return SourceTree(real, f"{path}{at}", key, pristine=False, git=checked_out)
    if (path / ".config").is_file():
        return BuildDirectory(path, str(path), _source_of(path))
    raise UsageError(
        f"KERNEL={kernel}: neither a kernel source tree (Kconfig, Kbuild) nor a build (.config)", hint=ACCEPTED
    )


def release_parts(top: Path) -> list[str]:
    """Return the parts of the release in a source's Makefile, ``["7", "2", "12", "-rc1"]``; empty without one."""
    makefile = top / "Makefile"
    return _PARTS.findall(makefile.read_text(errors="replace")) if makefile.is_file() else []


def release_of(top: Path) -> str:
    """Return the release in a source's Makefile: ``7.2.12``, ``7.3.0-rc4``."""
    parts = release_parts(top)
    return ".".join(parts[:3]) + "".join(parts[3:])


def _source_of(build_dir: Path) -> Path | None:
    """Return a build's source. Kbuild leaves a link ``source`` to it, and a Makefile that includes the source's."""
    candidates = [build_dir / "source"]
    makefile = build_dir / "Makefile"
    if makefile.is_file() and (match := _INCLUDE.search(makefile.read_text(errors="replace"))):
        candidates.append(Path(match[1]))
    return next((c.resolve() for c in candidates if (c / "Kconfig").is_file()), None)

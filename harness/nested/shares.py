# SPDX-License-Identifier: GPL-2.0-only
"""The directories of the host that the emulated machine sees, read-only: what the harness inside needs to run.

It runs with the host's own programs, Python packages, kernel and guest image, at the same paths. So nothing is
installed or built twice, and the harness inside finds its caches as the one outside does.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import paths

_LIBRARIES = ("bin", "sbin", "lib", "lib32", "lib64")
"""Links into /usr, or directories where /usr is not merged."""


@dataclass(frozen=True)
class Share:
    """A directory of the host."""

    tag: str
    """Names it to the machine."""
    path: Path
    """The same on both sides."""
    writable: bool = False
    """Whether the machine has a layer over it that takes writes. The host's directory never does."""


def shares(more: Iterable[Path]) -> list[Share]:
    """Return the directories of a run: programs, Python, the harness, its cache, and ``more``."""
    cache = paths.cache_dir().absolute()
    real = [Path("/", name) for name in _LIBRARIES if Path("/", name).is_dir() and not Path("/", name).is_symlink()]
    python = [Path(each) for each in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)]
    wanted = [Path("/usr"), *real, *python, paths.PACKAGE.parent, paths.TOP, *more]
    # Both forms: a path through a symbolic link above it is used as it is.
    found = outermost(form for path in wanted for form in (path.absolute(), path.resolve()))
    kept = [path for path in found if not path.is_relative_to(cache)]
    return [
        *(Share(f"share{number}", path) for number, path in enumerate(kept)),
        Share("cache", cache, writable=True),
    ]


def outermost(directories: Iterable[Path]) -> list[Path]:
    """Return the directories without those inside others, parents first."""
    found: list[Path] = []
    for path in sorted(set(directories), key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found


def links() -> dict[str, str]:
    """Return the links at the root, ``bin`` to ``usr/bin``, by name."""
    found = {name: Path("/", name) for name in _LIBRARIES}
    return {name: str(path.readlink()) for name, path in found.items() if path.is_symlink()}

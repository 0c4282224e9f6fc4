# SPDX-License-Identifier: GPL-2.0-only
"""The recipe of the guest image: ``guest-images/rootfs/rootfs.yaml`` as a model, and the hash of every input."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from harness import config
from harness.config import Model
from harness.paths import GUEST_IMAGES, name_in_checkout

ROOTFS = GUEST_IMAGES / "rootfs"
INIT = GUEST_IMAGES / "init"


class Package(Model):
    """One Debian package."""

    why: str
    """What the guest needs it for."""
    keep: list[str]
    """The files and directories to keep: shell patterns on paths relative to the root."""
    drop: list[str] = Field(default_factory=list)
    """The files and directories to leave out of ``keep``: shell patterns too."""


class Recipe(Model):
    """``rootfs.yaml``."""

    suite: str
    """The Debian release."""
    mirror: str
    """Where packages are fetched from."""
    keyring: str
    """The file with the archive's keys."""
    packages: dict[str, Package]
    """The packages by name; their dependencies are unpacked too."""

    @property
    def keep(self) -> list[str]:
        """Every package's ``keep``."""
        return [pattern for package in self.packages.values() for pattern in package.keep]

    @property
    def drop(self) -> list[str]:
        """Every package's ``drop``."""
        return [pattern for package in self.packages.values() for pattern in package.drop]


def load(path: Path = ROOTFS / "rootfs.yaml") -> Recipe:
    """Read the recipe. Raises UsageError that names file, line and key."""
    return config.load(path, Recipe)


def inputs() -> list[Path]:
    """Return the files that determine the image: recipe, overlay, init, and the code that puts them together."""
    rooms = (ROOTFS, INIT, Path(__file__).parent)
    return [p for room in rooms for p in room.rglob("*") if p.is_file() and p.suffix != ".pyc"]


def content_key(files: Iterable[Path], top: Path | None = None) -> str:
    """Return 16 hex digits over names, modes and contents of ``files``, in any order.

    Names are relative to ``top``, by default to the checkout. Of the mode only the owner's x counts: the rest depends
    on who made the checkout or unpacked the wheel, and the image does not contain it.
    """
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(top) if top else name_in_checkout(path), path) for path in files):
        content = path.read_bytes()
        mode = 0o111 if path.stat().st_mode & 0o100 else 0
        digest.update(f"{name}\0{mode}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]

# SPDX-License-Identifier: GPL-2.0-only
"""What goes into the guest image: ``guest-images/rootfs/rootfs.yaml`` as a model, and the hash of every input."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.paths import GUEST_IMAGES

ROOTFS = GUEST_IMAGES / "rootfs"
INIT = GUEST_IMAGES / "init"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Package(_Strict):
    """One Debian package; ``keep`` and ``drop`` are shell patterns on paths relative to the root."""

    why: str
    keep: list[str]
    drop: list[str] = []


class Recipe(_Strict):
    """``rootfs.yaml``."""

    suite: str
    mirror: str
    keyring: str
    packages: dict[str, Package]

    @property
    def keep(self) -> list[str]:
        """Every package's ``keep``."""
        return [pattern for package in self.packages.values() for pattern in package.keep]

    @property
    def drop(self) -> list[str]:
        """Every package's ``drop``."""
        return [pattern for package in self.packages.values() for pattern in package.drop]


def load(path: Path = ROOTFS / "rootfs.yaml") -> Recipe:
    """Read the recipe; UsageError names the file and the key."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {key}: {first['msg']}") from error


def inputs() -> list[Path]:
    """The files that decide what an image holds: recipe, overlay, init, and the code that puts them together."""
    rooms = (ROOTFS, INIT, Path(__file__).parent)
    return [p for room in rooms for p in room.rglob("*") if p.is_file() and p.suffix != ".pyc"]


def content_key(files: Iterable[Path], top: Path = GUEST_IMAGES.parent) -> str:
    """16 hex digits over names, modes and contents of ``files`` below ``top``, in any order."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(top)}\0{path.stat().st_mode & 0o111}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]

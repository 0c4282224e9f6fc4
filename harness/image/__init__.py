# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root file system: built once from Debian packages and the harness's init, cached by its inputs."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.config import DEFAULT_ARCH, Architecture, ArchName, architecture, native
from harness.errors import HarnessError
from harness.host.files import FULL_DISK, disk_full, fresh_dir, locked
from harness.host.held import hold, mark_used
from harness.image import agent, build, recipe
from harness.image.keys import Key, Keys, write_secret
from harness.paths import cache_dir
from harness.progress import Emit, phase

log = logging.getLogger(__name__)

__all__ = ["GuestImage", "cached", "obtain"]


@dataclass(frozen=True)
class GuestImage:
    """A built guest image."""

    root: Path
    """The root file system, an erofs image."""
    ssh_key: Path
    """The private key file to log in with."""
    host_key: str
    """The guest's public key line."""
    tools: Path | None = None
    """An image whose programs this host can run; None if it can run those of ``root``."""

    def agent(self) -> Path:
        """Return the agent as a zip application for this guest. Raises HarnessError or MissingPrerequisite."""
        return agent.pack(self.root, self.tools)


def _at(directory: Path, tools: Path | None) -> GuestImage:
    host_key = (directory / "host_key.pub").read_text().strip()
    return GuestImage(directory / "root.erofs", directory / "ssh_key", host_key, tools)


def obtain(emit: Emit, arch: ArchName = DEFAULT_ARCH) -> GuestImage:
    """Return the guest image, from the cache or built now (10 s, and 40 MB of packages fetched).

    An image of another architecture than the host's needs one of the host's, too: its programs build the other.
    Raises HarnessError or MissingPrerequisite; the cache then holds no partial image.
    """
    cache = cache_dir() / "image"
    cache.mkdir(exist_ok=True)
    found = architecture(arch)
    tools = None if found.is_native else obtain(emit, native()).root
    key = recipe.content_key(recipe.inputs())
    entry = cache / (key if arch == DEFAULT_ARCH else f"{key}-{arch}")
    log.debug("guest image: cache %s: %s", "hit" if entry.exists() else "miss", entry)
    if not entry.exists():
        with phase(emit, "guest image", f"from Debian {recipe.load().suite}, {found.debian}") as step:
            with locked(cache / "lock", "the guest image", step):
                for stale in cache.glob(".*.partial"):  # of a killed run; the lock allows one build at a time
                    shutil.rmtree(stale)
                if not entry.exists():  # another run may have built it meanwhile
                    _build(entry, found, tools)
            step.result = f"{(entry / 'root.erofs').stat().st_size >> 20} MiB"
    image = _at(entry, tools)
    mark_used(entry, image)
    if tools:
        hold(tools.parent, image)
    return image


def cached() -> list[Path]:
    """Return the directory of each image in the cache. Its modification time is that of its latest use."""
    return sorted(path.parent for path in (cache_dir() / "image").glob("[!.]*/root.erofs"))


def _build(entry: Path, arch: Architecture, tools: Path | None) -> None:
    """Build the image and its keys. The caller holds the cache's lock."""
    try:
        with fresh_dir(entry, mode=0o700) as partial:  # the image holds the guest's private key
            scratch = partial / "scratch"
            scratch.mkdir()
            keys = Keys(Key.generate(), Key.generate())
            build.assemble(recipe.load(), arch, keys, scratch, partial / "root.erofs", tools=tools)
            write_secret(partial / "ssh_key", keys.login.openssh)
            (partial / "host_key.pub").write_text(keys.host.public_line + "\n")
            shutil.rmtree(scratch)
    except OSError as error:
        raise disk_full() if error.errno in FULL_DISK else HarnessError(f"guest image: {error}") from error

# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root file system: built once from Debian packages and our own init, cached by the hash of its inputs."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError
from harness.image import build, command, recipe
from harness.image.keys import Key, write_secret
from harness.image.prerequisites import prerequisites
from harness.paths import cache_dir
from harness.progress import Emit, phase

__all__ = ["GuestImage", "obtain", "prerequisites"]

_LOCK_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class GuestImage:
    """``root`` is an erofs image, ``ssh_key`` a private key file, ``host_key`` a public key line."""

    root: Path
    ssh_key: Path
    host_key: str


def _at(directory: Path) -> GuestImage:
    return GuestImage(directory / "root.erofs", directory / "ssh_key", (directory / "host_key.pub").read_text().strip())


def obtain(emit: Emit) -> GuestImage:
    """The guest image, from the cache or built now (10 s, and 40 MB of packages fetched).

    HarnessError or MissingPrerequisite says what stood in the way; nothing half-made stays behind.
    """
    cache = cache_dir() / "image"
    cache.mkdir(exist_ok=True)
    ready = cache / recipe.content_key(recipe.inputs())
    with FileLock(cache / "lock", timeout=_LOCK_TIMEOUT_S):
        if not ready.exists():
            with phase(emit, "guest image", f"from Debian {recipe.load().suite}") as progress:
                _build(ready, cache / "partial")
                progress.result = f"{(ready / 'root.erofs').stat().st_size >> 20} MiB"
        return _at(ready)


def _build(ready: Path, partial: Path) -> None:
    """Build in ``partial``, which holds nothing of worth while we hold the lock, and give it its name at the end."""
    shutil.rmtree(partial, ignore_errors=True)
    scratch = partial / "scratch"
    try:
        partial.mkdir(mode=0o700)  # the image holds the guest's private key
        scratch.mkdir()
        login, host = Key.generate(), Key.generate()
        build.assemble(recipe.load(), scratch, login, host, partial / "root.erofs")
        write_secret(partial / "ssh_key", login.openssh)
        (partial / "host_key.pub").write_text(host.public_line + "\n")
        shutil.rmtree(scratch)
        partial.rename(ready)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise command.disk_full("guest image") from error
        raise HarnessError(f"guest image: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)

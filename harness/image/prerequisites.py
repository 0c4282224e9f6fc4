# SPDX-License-Identifier: GPL-2.0-only
"""What the host needs to build the guest image, for ``vfio-harness doctor``."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness.errors import MissingPrerequisite
from harness.image import command, recipe

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "gcc": "gcc",
    "readelf": "binutils",
    "setpriv": "util-linux",
}


def _has_static_libc() -> bool:
    gcc = command.require("gcc", "gcc")
    found = subprocess.run([gcc, "-print-file-name=libc.a"], capture_output=True, text=True, check=False).stdout
    return Path(found.strip()).is_absolute()  # gcc prints the bare name of what it has not


def prerequisites() -> Iterator[tuple[str, MissingPrerequisite | None]]:
    """What is needed, each with None or with what is wrong and the line that mends it."""
    for program, package in _PROGRAMS.items():
        try:
            command.require(program, package)
        except MissingPrerequisite as missing:
            yield program, missing
        else:
            yield program, None
    hint = "sudo apt-get install libc6-dev"
    ok = _has_static_libc()
    yield "static C library", None if ok else MissingPrerequisite("gcc finds no libc.a", hint=hint)
    keyring = recipe.load().keyring
    hint = "sudo apt-get install debian-archive-keyring"
    ok = Path(keyring).exists()
    yield "Debian archive keys", None if ok else MissingPrerequisite(f"{keyring} is missing", hint=hint)

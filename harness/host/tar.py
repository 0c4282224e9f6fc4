# SPDX-License-Identifier: GPL-2.0-only
"""Unpack a tar archive that somebody else wrote: files below one directory, and not too much of them."""

import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO, Literal

from harness.errors import HarnessError


def unpack_files(
    source: BinaryIO,
    directory: Path,
    subject: str,
    *,
    mode: Literal["r:", "r:gz"] = "r:",
    most_bytes: int,
    most_files: int,
) -> None:
    """Write the files of the archive ``source`` into ``directory``, with the directories that they need.

    ``subject`` names the archive in errors, in the plural. No owner, mode or date is kept.

    Raises HarnessError if it is damaged, holds anything but files and directories below ``directory``, or more than
    ``most_bytes`` or ``most_files``. What was unpacked by then stays.
    """
    top = directory.resolve()
    size = files = 0
    try:
        with tarfile.open(fileobj=source, mode=mode) as archive:
            for member in archive:
                target = (top / member.name).resolve()
                if not (member.isdir() or member.isfile()) or not target.is_relative_to(top):
                    raise HarnessError(f"{subject} hold what they must not: {member.name!r}")
                size, files = size + member.size, files + 1
                if size > most_bytes or files > most_files:
                    raise HarnessError(f"{subject} are too large: {files} files, {size >> 20} MiB")
                if data := archive.extractfile(member):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as out:
                        shutil.copyfileobj(data, out)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise HarnessError(f"{subject} cannot be unpacked: {error}") from None

# SPDX-License-Identifier: GPL-2.0-only
"""Unpack Debian packages with their dependencies into a directory. No root, no chroot, no maintainer scripts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.host import process
from harness.host.apt import require_keyring
from harness.host.packages import require
from harness.progress import Phase

_DOWNLOAD_TIMEOUT_S = 600.0
_QUOTED = 8
"""Lines of a failed mmdebstrap that the error quotes."""
_UNREACHABLE = re.compile(r"Could not (resolve|connect)|Temporary failure|Unable to connect|timed out")


@dataclass(frozen=True)
class Archive:
    """Where packages come from."""

    release: str
    """The base release, e.g. trixie."""
    sources: Sequence[str]
    """As in sources.list after ``deb``."""
    keyring: str
    """The file with the archive's keys."""
    prefer: str = ""
    """A suite that wins over the others wherever it has a package, e.g. trixie-backports."""
    architecture: str = "amd64"
    """Debian's name of the packages' architecture. The host need not be of it."""


def unpack(archive: Archive, packages: Iterable[str], target: Path, subject: str, step: Phase | None = None) -> None:
    """Fetch the packages and their dependencies, with apt in mmdebstrap's own state directory, and unpack them.

    ``subject`` names them in errors, e.g. ``the guest image's packages``. A sibling ``tmp`` of ``target`` is made.

    Raises HarnessError if the mirror cannot be reached; MissingPrerequisite without mmdebstrap or the archive's keys.
    """
    mmdebstrap = require("mmdebstrap")
    require_keyring(archive.keyring)
    temporary = target.with_name("tmp")  # a killed mmdebstrap leaves files there
    temporary.mkdir()
    lines: list[str] = []
    doing = "mmdebstrap starts"

    def on_line(line: str) -> None:
        nonlocal doing
        lines.append(line)
        if line.startswith("I: "):
            doing = line.removeprefix("I: ").removesuffix("...")

    def on_tick() -> None:
        if step:
            step.progress(doing)

    try:
        process.check(
            [
                mmdebstrap,
                "--variant=extract",
                "--mode=chrootless",  # needs no privilege; extract runs no maintainer scripts ...
                "--skip=check/chrootless",  # ... so root may use it too
                "--format=directory",
                f"--architectures={archive.architecture}",
                '--aptopt=Apt::Install-Recommends "false"',
                *([f'--aptopt=APT::Default-Release "{archive.prefer}"'] if archive.prefer else []),
                f"--include={','.join(packages)}",
                archive.release,
                target,
                *(f"deb [signed-by={archive.keyring}] {source}" for source in archive.sources),
            ],
            cwd=target.parent,
            timeout_s=_DOWNLOAD_TIMEOUT_S,
            env=process.environment(TMPDIR=str(temporary)),
            on_line=on_line,
            on_tick=on_tick,
            quoted=_QUOTED,
        )
    except HarnessError as error:
        if any(map(_UNREACHABLE.search, lines)):
            mirror = archive.sources[0].split()[0]
            raise HarnessError(
                f"{subject} cannot be fetched: {error}",
                hint=f"check the network: {mirror} must be reachable once; http_proxy is honoured",
            ) from error
        raise

# SPDX-License-Identifier: GPL-2.0-only
"""apt with a state directory of its own: it leaves the host's apt alone, needs no root, and checks signatures."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingPrerequisite
from harness.host import process
from harness.host.files import require_free_space, write_atomically
from harness.host.packages import install_line
from harness.progress import Phase

INDEX_MAX_AGE_S = 24 * 3600
"""apt's indexes are updated when they are older than this."""
INDEX_ROOM = 32 << 20
"""Bytes needed to update the indexes of small suites."""

_STAMP = "updated"


@dataclass(frozen=True)
class Available:
    """A version of a package in the archive."""

    name: str
    version: str
    suite: str
    """The suite that has it, e.g. trixie-backports."""


def parse_madison(lines: Iterable[str]) -> Iterator[Available]:
    """Yield the packages in the output of ``apt-cache madison``."""
    for line in lines:
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 3 and len(where := parts[2].split()) > 1:
            yield Available(parts[0], parts[1], where[1].partition("/")[0])


class Apt:
    """An apt whose whole state is in ``directory``. The caller holds a lock on that."""

    def __init__(self, directory: Path, keyring: str, suites: Sequence[str]) -> None:
        """Write its configuration. ``suites``: as in sources.list after ``deb``.

        Raises MissingPrerequisite without the file ``keyring``, which has the archive's keys.
        """
        require_keyring(keyring)
        self.directory = directory
        for sub in ("lists/partial", "cache/archives/partial"):
            (directory / sub).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        sources = "".join(f"deb [signed-by={keyring}] {suite}\n" for suite in suites)
        write_atomically(directory / "sources.list", sources)
        settings = {
            "Dir::State": directory,
            "Dir::State::status": directory / "status",
            "Dir::Cache": directory / "cache",
            "Dir::Etc::sourcelist": directory / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",  # the user _apt cannot read a cache in root's home
            "Acquire::Languages": "none",
            "Acquire::Retries": 3,
        }
        self._conf = directory / "apt.conf"
        write_atomically(self._conf, "".join(f'{key} "{value}";\n' for key, value in settings.items()))

    def update(self, step: Phase, room: int = INDEX_ROOM) -> None:
        """Update the indexes unless they are younger than ``INDEX_MAX_AGE_S``. They need ``room`` bytes.

        Raises HarnessError.
        """
        if not is_fresh(self.directory):
            require_free_space(room)
            self.run(["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"], self.directory, step)
            (self.directory / _STAMP).touch()

    def madison(self, names: Sequence[str], step: Phase) -> list[str]:
        """Return the lines of ``apt-cache madison`` for these packages."""
        return self.run(["apt-cache", "madison", *names], self.directory, step)

    def run(self, args: Sequence[str], cwd: Path, step: Phase) -> list[str]:
        """Run a program of apt in ``cwd``, and return its lines."""

        def tick() -> None:
            step.progress(f"{args[0]} {args[2] if len(args) > 2 else ''}".strip())

        return process.check(args, cwd=cwd, env=process.environment(APT_CONFIG=str(self._conf)), on_tick=tick)


def is_fresh(directory: Path) -> bool:
    """Return whether the indexes in an Apt's directory are younger than ``INDEX_MAX_AGE_S``."""
    stamp = directory / _STAMP
    return stamp.exists() and time.time() - stamp.stat().st_mtime < INDEX_MAX_AGE_S


def require_keyring(keyring: str) -> None:
    """Raise MissingPrerequisite without the file that has the archive's keys."""
    if not Path(keyring).is_file():
        raise MissingPrerequisite(f"{keyring} is missing: it has the archive's keys", hint=install_line([keyring]))

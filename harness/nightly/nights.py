# SPDX-License-Identifier: GPL-2.0-only
"""The directories of nights, ``results/nightly/<night>/``, and the newest of them, ``latest``."""

from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from harness import paths
from harness.errors import HarnessError
from harness.report.record import point

LATEST = "latest"


def nights_dir() -> Path:
    """Return the parent of the nights."""
    return paths.results_dir() / "nightly"


def make_directory(nights: Path) -> Path:
    """Make the directory of a new night, named by today's date in UTC. Raises HarnessError if the disk refuses it."""
    today = datetime.now(UTC).date().isoformat()
    names = (today if number == 1 else f"{today}-{number}" for number in count(1))
    directory = next(path for name in names if not (path := nights / name).exists())
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise HarnessError(f"{directory}: {error.strerror}", hint="set VFIO_HARNESS_RESULTS") from None
    return directory


def link_latest(directory: Path) -> None:
    """Point ``latest`` to a night. Raises HarnessError if it is not a symlink."""
    point(directory.parent / LATEST, directory)

# SPDX-License-Identifier: GPL-2.0-only
"""The directories of nights, ``results/nightly/<night>/``, and the newest of them, ``latest``."""

from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from harness import paths
from harness.errors import HarnessError, UsageError
from harness.nightly.outcomes import load_night, night_directories
from harness.nightly.record import Why
from harness.report.record import point

LATEST = "latest"
LOOK_BACK = 10
"""Nights in which the duration of a cell is searched."""


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


def expected_seconds(nights: Path) -> dict[str, float]:
    """Return how long each cell took in the newest of the last nights that ran it to its end, in seconds."""
    found: dict[str, float] = {}
    for directory in reversed(night_directories(nights)[:LOOK_BACK]):
        try:
            night = load_night(directory)
        except UsageError:
            continue
        for result in night.results:
            for run in result.runs:
                if run.why is Why.PLAN and run.completed and run.seconds is not None:
                    found[result.cell] = run.seconds
    return found

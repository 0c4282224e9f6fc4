# SPDX-License-Identifier: GPL-2.0-only
"""A night that runs: each change of its record is written at once, so that a killed night can go on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.nightly.record import FILE, CaseChange, CellResult, CellRun, Night, Why

CELLS = "cells"


class RunningNight:
    """The record of a night, and its directory."""

    def __init__(self, directory: Path, night: Night) -> None:
        """Raises HarnessError if the record cannot be written."""
        self.directory = directory
        self.night = night
        self._write()

    def result(self, cell: str) -> CellResult:
        """Return what has become of a cell."""
        return self.night.results[self._index(cell)]

    def begin(self, cell: str, why: Why, host: str = "") -> tuple[int, Path]:
        """Add a run of a cell. Return its number in the cell, from 0, and its directory, which is new."""
        number = len(self.result(cell).runs)
        relative = f"{CELLS}/{cell}/{number + 1}"
        run = CellRun(directory=relative, why=why, started=now(), host=host)
        self._replace(cell, [*self.result(cell).runs, run])
        directory = self.directory / relative
        try:
            directory.mkdir(parents=True)
        except OSError as error:
            raise HarnessError(
                f"{directory}: {error.strerror}", hint="make room, or set VFIO_HARNESS_RESULTS"
            ) from None
        return number, directory

    def end(self, cell: str, number: int, *, seconds: float, exit_code: int | None, error: str = "") -> None:
        """Record how a run has ended."""
        runs = list(self.result(cell).runs)
        runs[number] = runs[number].model_copy(
            update={"seconds": round(seconds, 3), "exit_code": exit_code, "error": error}
        )
        self._replace(cell, runs)

    def finish(self, changes: Sequence[CaseChange]) -> None:
        """Record that the night has ended."""
        self._update(ended=now(), changes=list(changes))

    def reopen(self, deadline_s: float | None) -> None:
        """Record that the night goes on, and may take so long from its start, in seconds."""
        self._update(ended=None, changes=[], deadline_s=deadline_s)

    def seconds(self) -> float:
        """Return the seconds since the start of the night, by the clock: it may have been killed meanwhile."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.night.started)).total_seconds()

    def _index(self, cell: str) -> int:
        return next(index for index, result in enumerate(self.night.results) if result.cell == cell)

    def _replace(self, cell: str, runs: Sequence[CellRun]) -> None:
        results = list(self.night.results)
        results[self._index(cell)] = CellResult(cell=cell, runs=list(runs))
        self._update(results=results)

    def _update(self, **changes: object) -> None:
        self.night = self.night.model_copy(update=changes)
        self._write()

    def _write(self) -> None:
        try:
            self.night.write(self.directory)
        except OSError as error:
            file = self.directory / FILE
            raise HarnessError(f"{file}: {error.strerror}", hint="make room, or set VFIO_HARNESS_RESULTS") from None


def now() -> str:
    """Return the time, in ISO 8601 and UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a bench: ``bench.json``, and the table that the terminal shows."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.report.record import read_record, write_report

SCHEMA = "vfio-harness/bench/1"
NOTEWORTHY = 0.1
"""A figure that differs from the baseline's by a larger share is marked."""

Part = Literal["boot", "change", "suite"]
FLOOR = "the shortest boot of this kernel"
"""The figure that all others are divided by: it depends on the host and the kernel, and on nothing of the harness."""


class Figure(BaseModel):
    """One measured time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: Part
    """The part of the bench that measured it."""
    what: str
    """What took this long."""
    seconds: float
    share: float | None = None
    """For a part of a sum: its share of the sum, 0 to 1."""


class Bench(BaseModel):
    """The content of ``bench.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    kernel: str
    """The release of the kernel."""
    accel: str
    """``kvm`` or ``tcg``."""
    load: float
    """The host's one-minute load average before the first measurement. On a busy host the figures say little."""
    figures: Sequence[Figure]

    def write(self, path: Path) -> None:
        """Write ``bench.json``. Raises HarnessError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(path, self.model_dump_json(by_alias=True, indent=2) + "\n")

    def find(self, part: Part, what: str) -> float | None:
        """Return the seconds of a figure; None if it was not measured."""
        return next((each.seconds for each in self.figures if (each.part, each.what) == (part, what)), None)

    def table(self, baseline: "Bench | None" = None) -> str:
        """Return a line for each figure: seconds, shares of the floor, and what ``baseline`` has."""
        return "\n".join(self._lines(baseline))

    def _lines(self, baseline: "Bench | None") -> Iterator[str]:
        floor = self.find("boot", FLOOR)
        yield f"{self.kernel}, {self.accel}, host load {self.load:.1f}"
        for part, figures in groupby(self.figures, key=attrgetter("part")):
            yield f"\n{part:6}  seconds" + ("  floors" if floor else "") + ("    before" if baseline else "")
            for figure in figures:
                columns = [f"{figure.seconds:15.2f}"]
                columns += [f"{figure.seconds / floor:6.2f}"] if floor else []
                columns += [_against(figure, baseline.find(figure.part, figure.what))] if baseline else []
                share = "" if figure.share is None else f" ({figure.share:.0%})"
                yield "  ".join([*columns, figure.what + share])


def _against(figure: Figure, before: float | None) -> str:
    if before is None:
        return f"{'-':>8} "
    mark = " "
    if abs(figure.seconds - before) > NOTEWORTHY * before:
        mark = "+" if figure.seconds > before else "-"
    return f"{before:8.2f}{mark}"


def load(path: Path) -> Bench:
    """Read a ``bench.json``. Raises UsageError, with the reason in one line."""
    return read_record(path, Bench, SCHEMA, hint="name a bench.json; `vfio-harness bench` writes results/bench.json")

# SPDX-License-Identifier: GPL-2.0-only
"""The coverage map: which functions of the kernel each case reaches, kept in the cache for each kernel series.

A run on a kernel of FLAVOUR=coverage writes what its cases have reached, and leaves other cases and other machines as
they are. Names of functions hold from one release of a series to the next, which line numbers do not.
"""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness import paths
from harness.config.kernel_path import KernelPath
from harness.gcov.counters import DIRECTORY, NOTES
from harness.gcov.measure import measure
from harness.host.files import write_atomically
from harness.verdict import RunRecord

SCHEMA = "vfio-harness/reach-map/1"


class CaseReach(BaseModel):
    """What a case reaches on one machine."""

    model_config = ConfigDict(extra="forbid")

    seconds: float
    """What it took with the counters."""
    functions: list[int]
    """Positions in ``ReachMap.functions``."""


class ReachMap(BaseModel):
    """The map of one kernel series."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    functions: list[str] = Field(default_factory=list)
    """``file:function``"""
    machines: dict[str, dict[str, CaseReach]] = Field(default_factory=dict)
    """For each machine, the cases that ran there."""

    def reaching(self, functions: Collection[str], machine: str) -> dict[str, float]:
        """Return the cases that reach one of the functions, with their seconds.

        ``functions``: ``file:function``, or ``file:`` for any function of the file. A machine without a run has the
        cases of all others."""
        wanted = {number for number, name in enumerate(self.functions) if _is_one_of(name, functions)}
        chosen = [self.machines[machine]] if machine in self.machines else [*self.machines.values()]
        return {case: reach.seconds for cases in chosen for case, reach in cases.items() if wanted & {*reach.functions}}

    def merge(self, machine: str, found: Mapping[str, tuple[float, Collection[str]]]) -> None:
        """Replace what cases reach on a machine. ``found``: the seconds and the functions of each case."""
        numbers = {name: number for number, name in enumerate(self.functions)}
        for case, (seconds, functions) in found.items():
            for name in functions:
                numbers.setdefault(name, len(numbers))
            reach = CaseReach(seconds=seconds, functions=sorted(numbers[name] for name in functions))
            self.machines.setdefault(machine, {})[case] = reach
        self.functions = list(numbers)


def _is_one_of(name: str, functions: Collection[str]) -> bool:
    return name in functions or f"{name.rpartition(':')[0]}:" in functions


def series_of(release: str) -> str:
    """Return the series of a release: 7.2 for 7.2.12, and for 7.2.0-rc3."""
    return ".".join(release.split(".")[:2])


def path_of(release: str) -> Path:
    """Return the file of a release's map."""
    return paths.cache_dir() / "reach" / f"{series_of(release)}.json"


def load_map(release: str) -> ReachMap | None:
    """Return the map of a release's series; None if there is none that this version can read."""
    try:
        found = ReachMap.model_validate_json(path_of(release).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.schema_ == SCHEMA else None


def add_run(run: Path, record: RunRecord) -> int:
    """Add a run's counters to the map; return how many cases. Raises HarnessError if gcov fails or the disk is full."""
    with zipfile.ZipFile(run / DIRECTORY / NOTES) as notes:
        files = {name: ["*"] for name in notes.namelist() if name.endswith(".c")}
    measured = measure([run], KernelPath(kernels=">=0", files=files))
    reached: dict[str, set[str]] = {}
    for (file, function), coverage in measured.functions.items():
        for case in {case for cases in coverage.lines.values() for case in cases}:
            reached.setdefault(case.id, set()).add(f"{file}:{function}")
    seconds = {case.id: case.duration_s for case in record.cases}
    found = load_map(record.kernel.release) or ReachMap()
    found.merge(record.machine, {case: (seconds[case], names) for case, names in reached.items() if case in seconds})
    path = path_of(record.kernel.release)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, found.model_dump_json(by_alias=True))
    return len(reached)

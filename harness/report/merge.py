# SPDX-License-Identifier: GPL-2.0-only
"""Joins the records of several runs of the same kernel and machine, e.g. of the shards of one run."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import __version__
from harness.errors import UsageError
from harness.report.parts import NOT_JUDGED
from harness.report.text import summarise
from harness.verdict import CaseRecord, KernelRecord, RunRecord, Verdict, worst_of


def merge(runs: Sequence[tuple[Path, RunRecord]], into: Path, run_id: str) -> RunRecord:
    """Return one record for all these runs, with the id ``run_id``. ``into``: the directory that will hold it.

    A case that a shard should have judged, and did not, is ERROR: its reason says MISS and names the shard. If several
    runs have judged a case, the worst verdict counts, but any verdict before ERROR: see ``worst_of``.

    Raises UsageError if the runs differ in kernel, machine or shards, or if two are the same run.
    """
    _require_different(runs)
    _require_same(runs)
    first = runs[0][1]
    found: dict[str, CaseRecord] = {}
    for directory, record in runs:
        for case in record.cases:
            moved = _moved(case, directory, into)
            found[case.id] = worst_of([found[case.id], moved]) if case.id in found else moved
    wanted = first.shard.cases if first.shard else []
    cases = [found.get(name) or _missing(name, [record for _, record in runs]) for name in wanted]
    cases += [case for name, case in found.items() if name not in set(wanted)]
    return first.model_copy(
        update={
            "run_id": run_id,
            "started": min(record.started for _, record in runs),
            "duration_s": round(sum(record.duration_s for _, record in runs), 3),
            "harness": __version__,
            "kernel": _kernel(first.kernel, runs[0][0], into),
            "summary": summarise(cases),
            "no_longer_seen": [seen for _, record in runs for seen in record.no_longer_seen],
            "phases": [done for _, record in runs for done in record.phases],
            "shard": None,
            "cases": cases,
        }
    )


_SAME: Mapping[str, Callable[[RunRecord], object]] = {
    "kernel": lambda record: (record.kernel.release, record.kernel.origin),
    "kernel's .config": lambda record: record.kernel.config_hash,
    "list of patches": lambda record: tuple(record.kernel.patches),
    "machine": lambda record: record.machine,
    "number of shards": lambda record: record.shard.count if record.shard else None,
    "list of cases of all shards": lambda record: tuple(record.shard.cases) if record.shard else None,
}
"""In what the runs must not differ."""


def _require_different(runs: Sequence[tuple[Path, RunRecord]]) -> None:
    paths: dict[str, Path] = {}
    for path, record in runs:
        if record.run_id in paths:
            raise UsageError(f"{path}: the same run as {paths[record.run_id]}", hint="name each run once")
        paths[record.run_id] = path


def _require_same(runs: Sequence[tuple[Path, RunRecord]]) -> None:
    (first_path, first), *others = runs
    for path, record in others:
        for what, of in _SAME.items():
            if of(record) != of(first):
                raise UsageError(
                    f"{path}: the {what} is {_shown(of(record))}, but that of {first_path} is {_shown(of(first))}",
                    hint="merge joins runs of the same kernel on the same machine",
                )


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 4:
        return f"one of {len(value)}"
    return ", ".join(map(str, value)) or "empty" if isinstance(value, tuple) else str(value)


def _moved(case: CaseRecord, directory: Path, into: Path) -> CaseRecord:
    """Return the case with the directory of its machine, and its recording, as seen from ``into``."""
    moved = {name: _path(getattr(case, name), directory, into) for name in ("ran_in", "recording")}
    return case.model_copy(update=moved)


def _kernel(kernel: KernelRecord, directory: Path, into: Path) -> KernelRecord:
    """Return the kernel with the files of its build as seen from ``into``."""
    if not kernel.build:
        return kernel
    moved = {name: _path(getattr(kernel.build, name), directory, into) for name in ("log", "config")}
    return kernel.model_copy(update={"build": kernel.build.model_copy(update=moved)})


def _path(relative: str | None, directory: Path, into: Path) -> str | None:
    """Return a path that is relative to ``directory``, relative to ``into``."""
    return os.path.relpath(directory / relative, into) if relative else relative


def _missing(name: str, records: Sequence[RunRecord]) -> CaseRecord:
    """Return the record of a case that no run has judged."""
    shards = [record.shard for record in records if record.shard]
    given = sorted({shard.index for shard in shards})
    lacking = [str(index) for index in range(1, shards[0].count + 1) if index not in given]
    if lacking:
        why = f"shard {', '.join(lacking)} of {shards[0].count} is not among the runs"
    else:
        why = "all shards are there, but none has judged it"
    return CaseRecord(
        id=name,
        area=NOT_JUDGED,
        title=name,
        verdict=Verdict.ERROR,
        reason=f"MISS: no run has judged the case: {why}",
        duration_s=0.0,
    )

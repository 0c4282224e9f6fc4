# SPDX-License-Identifier: GPL-2.0-only
"""Nights whose records are real files, written by the harness's own models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.nightly.record import Cell, CellResult, CellRun, Night, Why
from harness.report import to_json
from harness.report.text import summarise
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, RunRecord, Verdict

PLAN = "vm-configs/nightly.yaml"


def case_record(case: str, verdict: str, splat: str = "", seconds: float = 1.0) -> CaseRecord:
    """A case with its verdict. A bad one has a reason; ``splat`` is in its evidence."""
    return CaseRecord(
        id=case,
        area="a",
        title="t",
        verdict=Verdict(verdict),
        reason="" if verdict == "PASS" else f"the reason of {verdict}",
        duration_s=seconds,
        evidence=[Evidence(t=0.5, source="console", text=splat)] if splat else [],
    )


def run_record(cases: Sequence[CaseRecord], release: str = "7.2.12", machine: str = "intel-iommu") -> RunRecord:
    """A run of these cases."""
    return RunRecord(
        run_id="1",
        started="2026-06-01T00:00:00+00:00",
        duration_s=1.0,
        harness="0",
        host=HostRecord(qemu="7.2", accel="tcg", accel_reason="", cpu=""),
        kernel=KernelRecord(release=release, origin=f"debian:{release}", config_hash="c0ffee"),
        machine=machine,
        summary=summarise(cases),
        cases=list(cases),
    )


@dataclass
class Runs:
    """The runs of one cell, to be written."""

    cell: str = "a"
    planned: Sequence[str] | None = None
    """The cases of the plan; None: those of its runs."""
    runs: list[tuple[Why, RunRecord | None]] = field(default_factory=list)
    """In order. None: a run that left no record."""
    error: str = ""
    """Of a run without a record."""


def cell(verdicts: Mapping[str, str] | None = None, name: str = "a", release: str = "7.2.12") -> Runs:
    """A cell with one run, of these verdicts; or with none."""
    if verdicts is None:
        return Runs(name)
    return Runs(name, runs=[(Why.PLAN, run_record([case_record(*item) for item in verdicts.items()], release))])


class Nights:
    """``results/nightly``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, *cells: Runs, plan: str = PLAN, ended: str | None = "later") -> tuple[Night, Path]:
        """Write a night with the records of its runs."""
        directory = self.directory / name
        results = []
        for made in cells:
            runs = []
            for number, (why, record) in enumerate(made.runs, 1):
                place = Path("cells", made.cell, str(number))
                (directory / place).mkdir(parents=True, exist_ok=True)
                if record:
                    (directory / place / "report.json").write_text(to_json(record))
                code, error = (0, "") if record else (None, made.error)
                runs.append(CellRun(directory=str(place), why=why, started=f"{name}T00:00", seconds=9.0 * number,
                                    exit_code=code, error=error))  # fmt: skip
            results.append(CellResult(cell=made.cell, runs=runs))
        night = Night(night=name, started=f"{name}T00:00:00+00:00", ended=ended, plan=plan, results=results,
                      cells=[_planned(made) for made in cells])  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        night.write(directory)
        return night, directory


def _planned(made: Runs) -> Cell:
    seen = [case.id for _, record in made.runs if record for case in record.cases]
    cases = list(dict.fromkeys(seen)) if made.planned is None else list(made.planned)
    return Cell(id=made.cell, tree="t", kernel=None, flavour="release", machine="m", suite="default", cases=cases)

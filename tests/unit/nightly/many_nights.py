# SPDX-License-Identifier: GPL-2.0-only
"""Many nights of many cells, to measure how long the questions about them take."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from made_nights import PLAN, run_record

from harness.nightly.fill import stamp_of
from harness.nightly.history import History, open_history
from harness.nightly.record import FILE, CaseChange, Cell, CellResult, CellRun, Night, Why
from harness.progress import silent
from harness.report import to_json
from harness.report.record import REPORT
from harness.verdict import CaseRecord, Evidence, RunRecord, Verdict

FIRST = date(2024, 1, 1)
SKIPPED = "the machine has no NVMe controller with a CMB, and the case needs one"
BROKEN = "broken: a mapping made before a reset no longer reaches the device; seen: the command completed"
CALLS = 25
"""Observations of a case in the record of the last night."""
LIMIT_S = 1.0
"""How long a question may take, in seconds."""
WRITE_PAGE = """
import sys
from pathlib import Path
from harness.nightly.cells import NightVerdicts
from harness.nightly.page import write_page
write_page(NightVerdicts.read(Path(sys.argv[1])))
"""


@dataclass(frozen=True)
class Size:
    """How many nights there are, and how large each is."""

    nights: int
    cells: int
    cases: int

    @property
    def plan(self) -> list[Cell]:
        """The cells of each night, on three trees."""
        given = {"kernel": None, "flavour": "release", "suite": "default", "cases": self.names, "expected_s": 900.0}
        numbers = ((number % 3, number // 3) for number in range(self.cells))
        return [
            Cell(
                id=f"tree-{tree}-release-machine-{machine}-default", tree=f"tree-{tree}", machine=f"m{machine}", **given
            )
            for tree, machine in numbers
        ]

    @property
    def names(self) -> list[str]:
        """The ids of the cases."""
        return [f"test_file_{n % 30}::test_a_rule_with_its_name_{n}[iommufd+nvme]" for n in range(self.cases)]


def verdict_of(night: int, cell: int, case: int) -> Verdict:
    """Return a verdict: a fifth are SKIP, and one in 500 is bad."""
    if (cell + case) % 5 == 0:
        return Verdict.SKIP
    drawn = (night * 7919 + cell * 104729 + case * 1299709) % 1009
    return Verdict.FAIL if drawn == 0 else Verdict.SPLAT if drawn == 1 else Verdict.PASS


def run_of(size: Size, night: int, cell: int, *, one_kernel: bool, calls: int = 0) -> RunRecord:
    """Return the run of a cell. ``one_kernel``: all nights test the same; else each has its own commit."""
    evidence = [
        Evidence(t=0.1 * n, source="guest", text=f"Device.export(feature=0xb, payload=<32 bytes>) = #{n}, {'x' * 60}")
        for n in range(calls)
    ]
    cases = []
    for number, name in enumerate(size.names):
        verdict = verdict_of(night, cell, number)
        reason = "" if verdict is Verdict.PASS else SKIPPED if verdict is Verdict.SKIP else BROKEN
        cases.append(CaseRecord(id=name, area="a", title="A rule of the contract.", verdict=verdict, reason=reason,
                                duration_s=0.5 + number % 7,
                                evidence=[] if verdict is Verdict.SKIP else evidence))  # fmt: skip
    return run_record(cases, release="7.2.12" if one_kernel else f"7.3.0-rc1-{night}", machine="m")


def fill(nightly: Path, size: Size, *, one_kernel: bool) -> Path:
    """Add nights to the history in ``nightly``. Only the last has records. Return its directory."""
    plan = size.plan
    with open_history(nightly, silent) as history:
        for number in range(size.nights):
            directory = nightly / str(FIRST + timedelta(days=number))
            directory.mkdir(parents=True)
            last = number == size.nights - 1
            _add(history, directory, size, plan, number, one_kernel=one_kernel, last=last)
    return directory


def _add(
    history: History, directory: Path, size: Size, plan: list[Cell], number: int, *, one_kernel: bool, last: bool
) -> None:
    started = f"{directory.name}T01:30:00+00:00"
    results, records = [], {}
    for cell in range(size.cells):
        place = f"cells/{plan[cell].id}/1"
        records[place] = run_of(size, number, cell, one_kernel=one_kernel, calls=CALLS if last else 0)
        run = CellRun(directory=place, why=Why.PLAN, started=started, seconds=900.0, exit_code=0)
        results.append(CellResult(cell=plan[cell].id, runs=[run]))
    night = Night(night=directory.name, started=started, ended=started, plan=PLAN, cells=plan, results=results)
    if last:
        for place, record in records.items():
            (directory / place).mkdir(parents=True)
            (directory / place / REPORT).write_text(to_json(record))
        night = night.model_copy(update={"changes": list(_changes(records, night))})
        night.write(directory)
    else:
        (directory / FILE).touch()  # it is in the history, so that nothing reads it
    history.add(night, records, stamp_of(directory))


def _changes(records: dict[str, RunRecord], night: Night) -> Iterator[CaseChange]:
    for cell, record in zip(night.cells, records.values(), strict=True):
        for case in record.cases:
            if case.verdict in (Verdict.FAIL, Verdict.SPLAT):
                yield CaseChange(cell=cell.id, case=case.id, kind="broken", before="PASS", after=case.verdict,
                                 reason=case.reason)  # fmt: skip


def commands(size: Size, last: Path) -> dict[str, list[str]]:
    """Return the commands that must answer within a second, by what they answer. ``last``: the last night."""
    harness = [sys.executable, "-m", "harness"]
    case = size.names[7]
    return {
        "history": [*harness, "history", case],
        "history of all nights": [*harness, "history", case, "--nights", str(size.nights)],
        "flakes": [*harness, "flakes"],
        "flakes of all nights": [*harness, "flakes", "--nights", str(size.nights)],
        "page": [sys.executable, "-c", WRITE_PAGE, str(last)],
    }


def cpu_seconds(command: list[str], env: dict[str, str]) -> float:
    """Run a command, and return the CPU time that it took, start of Python included. A busy host hardly changes it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

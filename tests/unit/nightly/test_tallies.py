# SPDX-License-Identifier: GPL-2.0-only
"""``flakes`` from counts that are kept, compared with counting every verdict."""

import random
import sqlite3
from pathlib import Path

import pytest
from made_nights import PLAN, case_record, run_record

from harness.nightly.database import FILE
from harness.nightly.history import History, open_history
from harness.nightly.record import Cell, CellResult, CellRun, Night, Why
from harness.progress import silent

CASES = ["test_f::test_a", "test_f::test_b", "test_f::test_c"]
COUNT = """
    WITH recent AS (SELECT id FROM nights ORDER BY started DESC LIMIT ?)
    SELECT i.name, l.name, k.release, c.verdict, count(*)
    FROM cases c JOIN runs r ON r.id = c.run JOIN case_ids i ON i.id = c.name JOIN cells l ON l.id = r.cell
         JOIN kernels k ON k.id = r.kernel
    WHERE r.night IN recent GROUP BY 1, 2, 3, 4
"""

Counts = dict[tuple[str, str, str], dict[str, int]]


def add(history: History, number: int, rng: random.Random) -> None:
    """Add the night of this number, or replace it. Five nights are a month; kernels are tested for some nights."""
    results, records, cells = [], {}, []
    for name in ("a", "b"):
        runs = []
        for directory in [f"cells/{name}/{n}" for n in range(rng.choice([0, 1, 1, 1, 3]))]:
            verdicts = {case: rng.choice(["PASS"] * 8 + ["FAIL", "ERROR"]) for case in rng.sample(CASES, k=2)}
            made = [case_record(*each) for each in verdicts.items()]
            records[directory] = run_record(made, release=rng.choice(["7.1", f"7.2-rc{number // 4}"]))
            runs.append(CellRun(directory=directory, why=Why.PLAN, started="s", exit_code=0))
        results.append(CellResult(cell=name, runs=runs))
        cells.append(Cell(id=name, tree="t", kernel=None, flavour="release", machine="m", suite="s", cases=CASES))
    started = f"2026-{number // 5 + 1:02}-{number % 5 + 1:02}T00:00:00+00:00"
    history.add(Night(night=started[:10], started=started, plan=PLAN, cells=cells, results=results), records)


def counted(file: Path, nights: int) -> Counts:
    found: Counts = {}
    with sqlite3.connect(file) as connection:
        for case, cell, release, verdict, times in connection.execute(COUNT, (nights,)):
            found.setdefault((case, cell, release), {})[verdict] = times
    return {group: verdicts for group, verdicts in found.items() if len(verdicts) > 1}


@pytest.mark.parametrize("seed", range(5))
def test_flakes_are_those_of_a_count_of_every_verdict(tmp_path: Path, seed: int) -> None:
    """Nights are added in any order, and each may be replaced, as a night that goes on is."""
    rng = random.Random(seed)
    with open_history(tmp_path, silent) as history:
        numbers = [rng.randrange(30) for _ in range(60)]
        for at, number in enumerate(numbers):
            add(history, number, rng)
            if at % 10:
                continue
            for nights in (1, 3, 5, 12, 100):
                flakes = history.flakes(nights=nights)
                shown = {(flake.case, flake.cell, flake.kernel.release): flake.verdicts for flake in flakes}
                assert shown == counted(tmp_path / FILE, nights), (at, nights)
        assert flakes

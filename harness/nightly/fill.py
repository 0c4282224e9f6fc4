# SPDX-License-Identifier: GPL-2.0-only
"""Write the records of a night into the history. A night that is there is replaced, so twice changes nothing."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.nightly import tallies
from harness.nightly.database import Database
from harness.nightly.fingerprint import fingerprint
from harness.nightly.outcomes import deciding, load_night, load_run, night_directories, why_unjudged
from harness.nightly.record import FILE, CaseChange, CellResult, CellRun, Night, Why
from harness.progress import Emit, Note, phase
from harness.report.parts import MISS
from harness.verdict import KernelRecord, RunRecord

Records = Mapping[str, RunRecord]
"""The records of a night's runs, by their directories."""


def add_new_nights(database: Database, nightly: Path, emit: Emit, besides: str = "") -> None:
    """Add each night of ``results/nightly`` whose record is new, or has changed since it was added.

    ``besides``: the name of a night that is left as it is.
    """
    known = {row["name"]: row["stamp"] for row in database.read("SELECT name, stamp FROM nights")}
    found = (path for path in night_directories(nightly) if path.name != besides)
    new = [path for path in found if known.get(path.name) != stamp_of(path)]
    if not new:
        return
    with phase(emit, "history", f"{len(new)} nights") as step:
        for number, directory in enumerate(new):
            step.progress(directory.name, number / len(new))
            _add_directory(database, directory, emit)


def _add_directory(database: Database, directory: Path, emit: Emit) -> None:
    stamp = stamp_of(directory)
    try:
        night = load_night(directory)
    except UsageError as error:
        emit(Note(f"{error}: this night is not in the history"))
        return
    runs = (run.directory for result in night.results for run in result.runs)
    records = {name: record for name in runs if (record := load_run(directory / name))}
    add_night(database, directory.name, night, records, stamp)


def stamp_of(directory: Path) -> str:
    """Return what changes when the record of the night in a directory does."""
    found = (directory / FILE).stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def add_night(database: Database, name: str, night: Night, records: Records, stamp: str = "") -> None:
    """Write the rows of a night in one transaction, in place of those that it had. ``name``: its directory's."""

    def replace(connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT id FROM nights WHERE name = ?", (name,)).fetchone()
        if row:
            tallies.subtract(connection, row["id"])
            connection.execute("DELETE FROM cases WHERE run IN (SELECT id FROM runs WHERE night = ?)", (row["id"],))
            connection.execute("DELETE FROM runs WHERE night = ?", (row["id"],))
            connection.execute("DELETE FROM blamed WHERE night = ?", (row["id"],))
            connection.execute("DELETE FROM nights WHERE id = ?", (row["id"],))
        number = _insert(
            connection,
            "INSERT INTO nights (name, started, ended, plan, stamp) VALUES (?, ?, ?, ?, ?)",
            (name, night.started, night.ended, night.plan, stamp),
        )
        planned = {cell.id: cell.cases for cell in night.cells}
        rows = _Rows(connection, number)
        for result in night.results:
            rows.add(result, records, planned.get(result.cell, []))
        rows.blame(night.changes)
        tallies.add(connection, number)

    database.write(replace)


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    number = connection.execute(statement, values).lastrowid
    assert number is not None, "an INSERT has a row id"
    return number


class _Rows:
    """Writes the rows of one night."""

    def __init__(self, connection: sqlite3.Connection, night: int) -> None:
        self._connection = connection
        self._night = night
        self._ids: dict[tuple[str, str], int] = {}

    def add(self, result: CellResult, records: Records, planned: list[str]) -> None:
        """Write the runs of a cell with their cases, and the planned cases that none has judged."""
        cell = self._number("cells", "name", result.cell)
        runs = [(run, record) for run in result.runs if (record := records.get(run.directory))]
        found = deciding(runs)
        decisive = {id(case) for case in found.values()}
        for run in result.runs:
            self._add_run(cell, run, records.get(run.directory), decisive)
        if missed := [case for case in planned if case not in found]:
            lost = self._run_row(cell, CellRun(directory="", why=Why.PLAN, started=""), MISS, None)
            reason = self._number("reasons", "text", why_unjudged(result.runs))
            self._cases([(self._name(case), lost, MISS, 1, reason, None, None, "", None) for case in missed])

    def blame(self, changes: Sequence[CaseChange]) -> None:
        """Write the first bad commits of the changes that have one."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO blamed VALUES (?, ?, ?, ?)",
            [
                (self._night, self._number("cells", "name", each.cell), self._name(each.case), each.commit)
                for each in changes
                if each.commit
            ],
        )

    def _add_run(self, cell: int, run: CellRun, record: RunRecord | None, decisive: set[int]) -> None:
        number = self._run_row(cell, run, str(run.why), self._kernel(record.kernel) if record else None)
        rows = [
            (
                self._name(case.id),
                number,
                str(case.verdict),
                int(id(case) in decisive),
                self._number("reasons", "text", case.reason),
                case.duration_s,
                None if case.seed is None else str(case.seed),
                fingerprint(case),
                case.known_issue,
            )
            for case in (record.cases if record else ())
        ]
        self._cases(rows)

    def _run_row(self, cell: int, run: CellRun, why: str, kernel: int | None) -> int:
        return _insert(
            self._connection,
            "INSERT INTO runs (night, cell, directory, why, started, seconds, exit_code, kernel) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._night, cell, run.directory, why, run.started, run.seconds, run.exit_code, kernel),
        )

    def _cases(self, rows: Sequence[tuple[object, ...]]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _name(self, case: str) -> int:
        return self._number("case_ids", "name", case)

    def _number(self, table: str, column: str, text: str) -> int:
        """Return the number of a text in a table that has each once."""
        if (table, text) not in self._ids:
            self._connection.execute(f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)", (text,))
            found = self._connection.execute(f"SELECT id FROM {table} WHERE {column} = ?", (text,)).fetchone()
            self._ids[table, text] = found[0]
        return self._ids[table, text]

    def _kernel(self, kernel: KernelRecord) -> int:
        values = (_commit(kernel), kernel.release, kernel.origin, kernel.config_hash, "\n".join(kernel.patches))
        names = "commit_id, release, origin, config, patches"
        self._connection.execute(f"INSERT OR IGNORE INTO kernels ({names}) VALUES (?, ?, ?, ?, ?)", values)
        found = self._connection.execute(f"SELECT id FROM kernels WHERE ({names}) = (?, ?, ?, ?, ?)", values).fetchone()
        return int(found[0])


def _commit(kernel: KernelRecord) -> str:
    """Return the commit of a kernel whose source is exactly that commit."""
    return kernel.git.commit if kernel.git and not kernel.git.dirty else ""

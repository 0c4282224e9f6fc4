# SPDX-License-Identifier: GPL-2.0-only
"""The SQLite file of the history: its tables, its locks, and what happens to a file that cannot be used.

The records in ``results/nightly`` are the truth, and this file is an index of them. So a file that is corrupt or of
another version is kept under another name, and a new one is filled from the records. The latest ``KEPT`` such files
stay.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from harness.errors import HarnessError
from harness.host.files import locked
from harness.progress import Emit, Note, Phase

FILE = "history.sqlite"
APPLICATION = 0x76666E68
"""SQLite's application_id of such a file: "vfnh"."""
VERSION = 3
"""SQLite's user_version. It changes with the tables; a file of another version is built anew."""
KEPT = 3
"""Files that could not be used and are kept. A user may want one for the nights whose records were pruned."""
BUSY_S = 30.0
"""The longest wait for another process that writes. Adding a night takes well under a second."""

TABLES = """
CREATE TABLE nights (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, started TEXT NOT NULL, ended TEXT, plan TEXT NOT NULL,
    stamp TEXT NOT NULL
);
CREATE INDEX nights_by_start ON nights (started);
CREATE TABLE cells (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE case_ids (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE kernels (
    id INTEGER PRIMARY KEY, commit_id TEXT NOT NULL, release TEXT NOT NULL, origin TEXT NOT NULL, config TEXT NOT NULL,
    patches TEXT NOT NULL, UNIQUE (commit_id, release, origin, config, patches)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, night INTEGER NOT NULL, cell INTEGER NOT NULL, directory TEXT NOT NULL, why TEXT NOT NULL,
    started TEXT NOT NULL, seconds REAL, exit_code INTEGER, kernel INTEGER, UNIQUE (night, cell, directory)
);
CREATE INDEX runs_by_cell ON runs (cell, night);
CREATE INDEX runs_by_kernel ON runs (cell, kernel);
CREATE TABLE reasons (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE cases (
    name INTEGER NOT NULL, run INTEGER NOT NULL, verdict TEXT NOT NULL, decides INTEGER NOT NULL,
    reason INTEGER NOT NULL, seconds REAL, seed TEXT, fingerprint TEXT NOT NULL, known_issue TEXT,
    PRIMARY KEY (name, run)
) WITHOUT ROWID;
CREATE INDEX cases_by_run ON cases (run, name, verdict);
CREATE TABLE blamed (
    night INTEGER NOT NULL, cell INTEGER NOT NULL, name INTEGER NOT NULL, commit_id TEXT NOT NULL,
    PRIMARY KEY (night, cell, name)
) WITHOUT ROWID;
CREATE TABLE varying (
    cell INTEGER NOT NULL, kernel INTEGER NOT NULL, name INTEGER NOT NULL, PRIMARY KEY (cell, kernel, name)
) WITHOUT ROWID;
CREATE TABLE tallies (
    cell INTEGER NOT NULL, kernel INTEGER NOT NULL, name INTEGER NOT NULL, verdict TEXT NOT NULL, month TEXT NOT NULL,
    times INTEGER NOT NULL, PRIMARY KEY (cell, kernel, name, verdict, month)
) WITHOUT ROWID;
"""
"""``cases`` is sorted by case, for the history of one case; ``cases_by_run`` gives the cases of a few nights. A name is
the id that the case had then. ``kernel`` is NULL for what has not run: its verdict is MISS. Most reasons are those of a
SKIP, the same in each night. ``blamed`` has the first bad commits that a night's bisection found. ``varying`` and
``tallies`` are explained in ``harness/nightly/tallies.py``."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""SQLite's primary result codes for a damaged file."""
_LACKS = re.compile(r"no such (table|column)|.* has no column")
"""What SQLite says of a file that lacks a table or a column."""

_PARTS = ("-wal", "-shm", "")
"""What SQLite appends to the name of a file for its write-ahead log and its index, and the file itself."""

T = TypeVar("T")
Fill = Callable[["Database"], None]


class _Unusable(Exception):
    """The file cannot be used. The message says why."""


class Database:
    """The open file. ``fill`` is called whenever it is opened, to add what it does not have. Notes go to ``emit``."""

    def __init__(self, file: Path, emit: Emit, fill: Fill) -> None:
        self.file = file
        self._emit = emit
        self._fill = fill
        self._open()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query. A file that turns out to be corrupt is built anew first."""
        return self._run(lambda connection: connection.execute(query, values).fetchall())

    def write(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``action`` in one transaction. It waits for others that write, and has all its effects or none."""

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = action(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._reported():
                return action(self._connection)
        except _Unusable as error:
            self._replace(str(error))
        try:
            with self._reported():
                return action(self._connection)
        except _Unusable as error:
            raise HarnessError(f"{self.file}: {error}, although it is new", hint=_HINT) from None

    def _replace(self, why: str) -> None:
        """Put a new file in the place of one that is damaged, unless another process has done so already."""
        self._connection.close()
        with self._locked():
            replaced = not self.file.exists() or self.file.stat().st_ino != self._inode
            if not replaced:
                self._set_aside(why)
        self._open()

    def _open(self) -> None:
        """Open the file, or make one if there is none that can be used. Then fill it."""
        with self._locked():
            try:
                with self._reported():
                    self._connection = self._connect()
            except _Unusable as error:
                self._set_aside(str(error))
                with self._reported():
                    self._connection = self._connect()
            self._inode = self.file.stat().st_ino
        try:
            self._fill(self)
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        """Return a connection, with the tables. Raises _Unusable for a file of another version."""
        connection = sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                connection.executescript(
                    f"PRAGMA application_id = {APPLICATION}; PRAGMA journal_mode = WAL; BEGIN;{TABLES}"
                    f"PRAGMA user_version = {VERSION}; COMMIT;"
                )
            application, version = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if application != APPLICATION:
                raise _Unusable("it is no history of vfio-harness")
            if version != VERSION:
                raise _Unusable(f"its version is {version}, and this vfio-harness has {VERSION}")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, why: str) -> None:
        """Rename the file, with its write-ahead log, and report it. Remove what is older than the latest ``KEPT``."""
        kept = self.file.with_name(f"{self.file.name}.bad-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        for suffix in _PARTS:
            part = self.file.with_name(self.file.name + suffix)
            if part.exists():
                part.rename(kept.with_name(kept.name + suffix))
        self._emit(Note(f"the history cannot be used: {why}"))
        self._emit(Note(f"it is kept as {kept}"))
        self._emit(Note("a new one is made from the records; the old one has the nights whose records were pruned"))
        for old in self._bad_files()[KEPT:]:
            for suffix in _PARTS:
                old.with_name(old.name + suffix).unlink(missing_ok=True)
            self._emit(Note(f"removed {old}: the latest {KEPT} such files are kept"))

    def _bad_files(self) -> list[Path]:
        """Return the files that could not be used, the latest first."""
        return sorted(self.file.parent.glob(f"{self.file.name}.bad-[0-9]*[0-9]"), reverse=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from making or replacing the file. Reads and writes of a good file need no lock."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lock = self.file.with_name(f".{self.file.name}.lock")
            with locked(lock, self.file.name, Phase(self._emit, "history")):
                yield
        except OSError as error:
            raise HarnessError(f"{error.filename or self.file}: {error.strerror}", hint=_HINT) from None

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn SQLite's errors into _Unusable, or into an error that names the file."""
        began = time.monotonic()
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL) & 0xFF
            if code in _DAMAGED or _LACKS.match(str(error)):
                raise _Unusable(str(error)) from None
            waited = f" for {time.monotonic() - began:.0f} s" if code == sqlite3.SQLITE_BUSY else ""
            raise HarnessError(f"{self.file}: {error}{waited}", hint=_HINT) from None


_HINT = "make it writable and its disk not full, or set VFIO_HARNESS_RESULTS to another directory"

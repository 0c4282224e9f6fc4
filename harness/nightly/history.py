# SPDX-License-Identifier: GPL-2.0-only
"""The history of all nights: which verdict a case had in which cell and on which kernel, and how long it took.

``open_history`` adds each night whose record is new or has changed. So nothing else has to fill it.
"""

import sqlite3
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.nightly import tallies
from harness.nightly.database import FILE, Database
from harness.nightly.fill import Records, add_new_nights, add_night
from harness.nightly.outcomes import Key, Outcome, night_directories, order_of, rates
from harness.nightly.past import PastNight
from harness.nightly.record import COMPLETED, Night, Why
from harness.progress import Emit
from harness.report.parts import MISS
from harness.report.rate import count, short_text
from harness.report.renamed import renamed_cases
from harness.verdict import GOOD

NIGHTS = 30
"""Nights that a question looks at, unless it names another number."""
MEDIAN_OF = 5
"""Runs from which the usual duration of a case is computed."""


@dataclass(frozen=True)
class KernelName:
    """A kernel under test."""

    release: str = ""
    """As ``uname -r`` prints it."""
    origin: str = ""
    """Where it comes from."""
    commit: str = ""
    """40 hex digits; empty if its source is not a clean commit."""

    def __str__(self) -> str:
        """Return the release, with the start of the commit."""
        return f"{self.release} ({self.commit[:12]})" if self.commit else self.release


@dataclass(frozen=True)
class CaseNight:
    """A case in one cell of one night."""

    case: str
    """The id that it has today."""
    night: str
    cell: str
    kernel: KernelName
    verdict: str
    """MISS: the night has planned it, and no run has judged it."""
    rate: str
    """How often it failed when it was repeated, e.g. ``3 of 10``."""
    reason: str
    seconds: float | None
    seed: str | None
    fingerprint: str
    directory: Path
    """Of its run."""
    first_bad: str
    """The hash and the subject of the commit that broke it in this night; empty if no bisection found one."""


@dataclass(frozen=True)
class Flake:
    """A case with different verdicts in the same cell on the same kernel."""

    case: str
    cell: str
    kernel: KernelName
    verdicts: dict[str, int]
    """How many runs ended with each, the most frequent first."""

    @property
    def rate(self) -> str:
        """Return how often it failed: ``3 of 10``."""
        return short_text(self.verdicts)


@dataclass(frozen=True)
class GoodNight:
    """The last night in which a case passed in a cell."""

    night: str
    kernel: KernelName
    directory: Path
    """Of the run, for ``vfio-harness compare``."""


class History:
    """The open history. ``open_history`` returns one."""

    def __init__(self, nightly: Path, emit: Emit, besides: str = "") -> None:
        """``nightly``: ``results/nightly``. ``besides``: see ``open_history``."""
        self._nightly = nightly
        self._emit = emit
        self._besides = besides
        self._database = Database(nightly / FILE, emit, self._fill)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _fill(self, database: Database) -> None:
        add_new_nights(database, self._nightly, self._emit, self._besides)

    def add(self, night: Night, records: Records, stamp: str = "") -> None:
        """Add a night, or replace it if it is there. ``stamp``: of its record, ``fill.stamp_of``."""
        add_night(self._database, night.night, night, records, stamp)

    def cases(self) -> list[str]:
        """Return the ids of all cases that a night has planned or judged, as they are today."""
        return sorted(set(self._names().values()))

    def cells(self) -> list[str]:
        """Return the ids of all cells."""
        return list(self._cells().values())

    def verdicts(self, cases: Iterable[str], *, nights: int = NIGHTS, cell: str | None = None) -> list[CaseNight]:
        """Return the verdict of each case in each cell of the latest nights, newest night first."""
        names = self._names()
        wanted = set(cases)
        ids = [number for number, name in names.items() if name in wanted]
        rows = self._database.read(
            f"""
            WITH recent AS MATERIALIZED (SELECT id FROM nights ORDER BY started DESC, id DESC LIMIT ?)
            SELECT c.name AS id, c.verdict, c.decides, t.text AS reason, c.seconds, c.seed, c.fingerprint,
                   n.name AS night, l.name AS cell, k.release, k.origin, k.commit_id,
                   r.directory, r.why, r.night AS night_id, r.cell AS cell_id, b.commit_id AS first_bad
            FROM recent CROSS JOIN runs r ON r.night = recent.id CROSS JOIN cases c ON c.run = r.id
                 JOIN nights n ON n.id = r.night JOIN cells l ON l.id = r.cell JOIN reasons t ON t.id = c.reason
                 LEFT JOIN kernels k ON k.id = r.kernel
                 LEFT JOIN blamed b ON (b.night, b.cell, b.name) = (r.night, r.cell, c.name)
            WHERE c.name IN ({_marks(ids)}) AND (? IS NULL OR l.name = ?)
            ORDER BY n.started DESC, l.name, c.name, r.id
            """,
            (nights, *ids, cell, cell),
        )
        repeated = _rates(rows)
        return [
            CaseNight(
                case=names[row["id"]],
                night=row["night"],
                cell=row["cell"],
                kernel=_kernel_name(row),
                verdict=row["verdict"],
                rate=repeated.get((row["night_id"], row["cell_id"], row["id"]), ""),
                reason=row["reason"],
                seconds=row["seconds"],
                seed=row["seed"],
                fingerprint=row["fingerprint"],
                directory=Path(f"{self._nightly}/{row['night']}/{row['directory']}"),
                first_bad=row["first_bad"] or "",
            )
            for row in rows
            if row["decides"]
        ]

    def flakes(self, *, nights: int = NIGHTS) -> list[Flake]:
        """Return the cases with different verdicts on the same kernel in the latest nights, the most often bad first.

        All runs count: those of the plan, those after an ERROR, and the repetitions.
        """
        names, cells = self._names(), self._cells()
        found: dict[tuple[int, int, str], Counter[str]] = defaultdict(Counter)
        for row in self._database.read(*tallies.read(nights)):
            found[row["cell"], row["kernel"], names[row["name"]]][row["verdict"]] += row["times"]
        kernels = {row["id"]: _kernel_name(row) for row in self._database.read("SELECT * FROM kernels")}
        flakes = [
            Flake(case, cells[cell], kernels[kernel], dict(sorted(verdicts.items(), key=_most_frequent)))
            for (cell, kernel, case), verdicts in found.items()
            if len(verdicts) > 1
        ]
        return sorted(flakes, key=_most_often_bad)

    def nights_before(self, night: Night) -> Iterator[PastNight]:
        """Yield the earlier nights of the same plan, newest first. Each is read when it is asked for."""
        found = self._database.read("SELECT id, name FROM nights WHERE plan = ?", (night.plan,))
        earlier = {order_of(row["name"]): row for row in found if order_of(row["name"]) < order_of(night.night)}
        names, cells = self._names(), self._cells()
        for _, row in sorted(earlier.items(), reverse=True):
            yield row["name"], self._outcomes(row["id"], names, cells)

    def _outcomes(self, night: int, names: Mapping[int, str], cells: Mapping[int, str]) -> dict[Key, Outcome]:
        """Return the outcome of each case that a run of a night has judged."""
        rows = self._database.read(
            """
            SELECT c.name AS id, c.verdict, c.decides, t.text AS reason, c.fingerprint, c.known_issue,
                   r.why, r.night AS night_id, r.cell AS cell_id
            FROM runs r JOIN cases c ON c.run = r.id JOIN reasons t ON t.id = c.reason
            WHERE r.night = ? AND r.kernel IS NOT NULL
            """,
            (night,),
        )
        repeated = _rates(rows)
        return {
            (cells[row["cell_id"]], names[row["id"]]): Outcome(
                verdict=row["verdict"],
                reason=row["reason"],
                known_issue=row["known_issue"],
                fingerprint=row["fingerprint"],
                rate=repeated.get((row["night_id"], row["cell_id"], row["id"]), ""),
            )
            for row in rows
            if row["decides"]
        }

    def durations(self, cell: str) -> dict[str, float]:
        """Return how long each case of the cell usually takes, in seconds: the median of its latest runs."""
        rows = self._database.read(
            """
            WITH latest AS (
                SELECT r.id FROM nights n CROSS JOIN runs r INDEXED BY runs_by_cell ON r.night = n.id
                WHERE r.cell = (SELECT id FROM cells WHERE name = ?) AND r.why = ? AND r.kernel IS NOT NULL
                ORDER BY n.started DESC, r.id DESC LIMIT ?
            )
            SELECT c.name AS id, c.seconds FROM latest JOIN cases c ON c.run = latest.id
            WHERE c.seconds IS NOT NULL
            """,
            (cell, str(Why.PLAN), MEDIAN_OF),
        )
        names = self._names()
        taken: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            taken[names[row["id"]]].append(row["seconds"])
        return {case: statistics.median(seconds) for case, seconds in taken.items()}

    def expected_seconds(self) -> dict[str, float]:
        """Return how long each cell usually takes, in seconds: the median of its latest runs that came to their end."""
        rows = self._database.read(
            f"""
            SELECT cell, seconds FROM (
                SELECT l.name AS cell, r.seconds,
                       row_number() OVER (PARTITION BY r.cell ORDER BY n.started DESC, r.id DESC) AS place
                FROM runs r JOIN nights n ON n.id = r.night JOIN cells l ON l.id = r.cell
                WHERE r.why = ? AND r.kernel IS NOT NULL AND r.seconds IS NOT NULL
                      AND r.exit_code IN ({_marks(COMPLETED)})
            ) WHERE place <= ?
            """,
            (str(Why.PLAN), *COMPLETED, MEDIAN_OF),
        )
        taken: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            taken[row["cell"]].append(row["seconds"])
        return {cell: statistics.median(seconds) for cell, seconds in taken.items()}

    def last_nights(self) -> dict[str, str]:
        """Return the newest night in which each cell has begun to run, by the ids of the cells."""
        rows = self._database.read(
            """
            SELECT l.name AS cell, n.name AS night, max(n.started)
            FROM runs r JOIN nights n ON n.id = r.night JOIN cells l ON l.id = r.cell
            WHERE r.why <> ? GROUP BY r.cell
            """,
            (MISS,),
        )
        return {row["cell"]: row["night"] for row in rows}

    def last_good_night(self, cell: str, case: str, before: str | None = None) -> GoodNight | None:
        """Return the last night in which the case passed in the cell. ``before``: a night; only earlier ones count."""
        ids = [number for number, name in self._names().items() if name == case]
        rows = self._database.read(
            f"""
            SELECT n.name AS night, r.directory, k.release, k.origin, k.commit_id
            FROM nights n CROSS JOIN runs r ON r.night = n.id CROSS JOIN cases c ON c.run = r.id
                 JOIN kernels k ON k.id = r.kernel
            WHERE r.cell = (SELECT id FROM cells WHERE name = ?)
                  AND c.name IN ({_marks(ids)}) AND c.decides AND c.verdict IN ({_marks(GOOD)})
                  AND (? IS NULL OR n.started < (SELECT started FROM nights WHERE name = ?))
            ORDER BY n.started DESC LIMIT 1
            """,
            (cell, *ids, *GOOD, before, before),
        )
        return next((self._good_night(row) for row in rows), None)

    def still_blamed(self, night: Night, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the first bad commit of each of these cases that an earlier night of the plan has found.

        A case that has passed since is left out: its next failure may have another cause.
        """
        wanted, names, cells = set(keys), self._names(), self._cells()
        rows = self._database.read(
            """
            SELECT n.name AS night, b.cell, b.name AS id, b.commit_id
            FROM nights n JOIN blamed b ON b.night = n.id WHERE n.plan = ? AND n.started < ? ORDER BY n.started
            """,
            (night.plan, night.started),
        )
        found = {key: row for row in rows if (key := (cells[row["cell"]], names[row["id"]])) in wanted}
        passed = {key: self.last_good_night(*key) for key in found}
        return {
            key: row["commit_id"]
            for key, row in found.items()
            if (good := passed[key]) is None or order_of(good.night) < order_of(row["night"])
        }

    def _good_night(self, row: sqlite3.Row) -> GoodNight:
        return GoodNight(row["night"], _kernel_name(row), self._nightly / row["night"] / row["directory"])

    def _names(self) -> dict[int, str]:
        """Return the id that each case has today, by its number."""
        current = renamed_cases().current_id
        return {row["id"]: current(row["name"]) for row in self._database.read("SELECT id, name FROM case_ids")}

    def _cells(self) -> dict[int, str]:
        """Return the id of each cell, by its number."""
        return {row["id"]: row["name"] for row in self._database.read("SELECT id, name FROM cells ORDER BY name")}


def has_nights(nightly: Path) -> bool:
    """Return whether ``results/nightly`` has a night, or a history of those that were removed."""
    return (nightly / FILE).exists() or bool(night_directories(nightly))


@contextmanager
def open_history(nightly: Path, emit: Emit, besides: str = "") -> Iterator[History]:
    """Open the history in ``results/nightly``, and add the nights that it does not have.

    ``besides``: the name of a night that is not added: its own process adds it when it ends, with the records that it
    has read. Raises HarnessError if the file cannot be read or written. A file that is damaged or of another version is
    kept under another name, ``emit`` gets a note, and a new file is made from the records.
    """
    history = History(nightly, emit, besides)
    try:
        yield history
    finally:
        history.close()


def _most_often_bad(flake: Flake) -> tuple[float, str, str]:
    bad, judged = count(flake.verdicts)
    return -bad / max(judged, 1), flake.case, flake.cell


def _most_frequent(count: tuple[str, int]) -> tuple[int, str]:
    verdict, times = count
    return -times, verdict


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _kernel_name(row: sqlite3.Row) -> KernelName:
    return KernelName(row["release"] or "", row["origin"] or "", row["commit_id"] or "")


def _rates(rows: Iterable[sqlite3.Row]) -> dict[tuple[int, int, int], str]:
    """Return how often each case failed in the repetitions of a cell of a night."""
    repetitions = (row for row in rows if row["why"] == Why.RATE)
    return rates(((row["night_id"], row["cell_id"], row["id"]), row["verdict"]) for row in repetitions)

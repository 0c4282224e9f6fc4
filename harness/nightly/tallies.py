# SPDX-License-Identifier: GPL-2.0-only
"""Counts of verdicts that are kept while nights are added, so that ``flakes`` need not read every verdict.

A *group* is a case in a cell on a kernel. Few groups ever have a second verdict: these are in ``varying``, and only
they are in ``tallies``, which counts their verdicts for each month. ``fill`` calls ``subtract`` before it removes a
night and ``add`` after it has added one, both in its transaction.
"""

import sqlite3

_MONTH = "substr(n.started, 1, 7)"
"""The month of a night, e.g. ``2026-11``: ``started`` is ISO 8601."""

_COUNT = f"""
    INSERT INTO tallies (cell, kernel, name, verdict, month, times)
    SELECT r.cell, r.kernel, c.name, c.verdict, {_MONTH}, :sign * count(*)
    FROM runs r JOIN nights n ON n.id = r.night JOIN cases c ON c.run = r.id
         JOIN varying v ON (v.cell, v.kernel, v.name) = (r.cell, r.kernel, c.name)
    WHERE r.night = :night GROUP BY 1, 2, 3, 4
    ON CONFLICT DO UPDATE SET times = times + excluded.times
"""

# Whether a group varies shows in the run before: until now, all its verdicts were equal.
_NEW_VARYING = """
    SELECT DISTINCT r.cell, r.kernel, c.name
    FROM runs r JOIN cases c ON c.run = r.id
    WHERE r.night = :night AND r.kernel IS NOT NULL AND c.verdict <> (
        SELECT o.verdict FROM runs p CROSS JOIN cases o ON o.name = c.name AND o.run = p.id
        WHERE p.cell = r.cell AND p.kernel = r.kernel AND p.id < r.id ORDER BY p.id DESC LIMIT 1
    )
    EXCEPT SELECT cell, kernel, name FROM varying
"""

_COUNT_GROUP = f"""
    INSERT INTO tallies (cell, kernel, name, verdict, month, times)
    SELECT r.cell, r.kernel, c.name, c.verdict, {_MONTH}, count(*)
    FROM runs r CROSS JOIN cases c ON c.name = ? AND c.run = r.id JOIN nights n ON n.id = r.night
    WHERE r.cell = ? AND r.kernel = ? GROUP BY 4, 5
"""

# The months after that of the oldest night are counted. Of that month, only some nights may be asked for.
_READ = f"""
    WITH recent AS MATERIALIZED (
             SELECT n.id, {_MONTH} AS month FROM nights n ORDER BY n.started DESC, n.id DESC LIMIT ?
         ),
         oldest AS MATERIALIZED (SELECT min(month) AS month FROM recent)
    SELECT name, cell, kernel, verdict, sum(times) AS times FROM tallies
    WHERE month > (SELECT month FROM oldest) GROUP BY cell, kernel, name, verdict HAVING sum(times) > 0
    UNION ALL
    SELECT v.name, v.cell, v.kernel, c.verdict, count(*)
    FROM recent CROSS JOIN runs r ON r.night = recent.id
         CROSS JOIN cases c INDEXED BY cases_by_run ON c.run = r.id
         CROSS JOIN varying v ON v.cell = r.cell AND v.kernel = r.kernel AND v.name = c.name
    WHERE recent.month = (SELECT month FROM oldest) GROUP BY v.cell, v.kernel, v.name, c.verdict
"""


def add(connection: sqlite3.Connection, night: int) -> None:
    """Count the verdicts of a night whose rows were added just now. ``night``: its number."""
    connection.execute(_COUNT, {"night": night, "sign": 1})
    groups = connection.execute(_NEW_VARYING, {"night": night}).fetchall()
    connection.executemany("INSERT INTO varying (cell, kernel, name) VALUES (?, ?, ?)", map(tuple, groups))
    connection.executemany(_COUNT_GROUP, [(name, cell, kernel) for cell, kernel, name in groups])


def subtract(connection: sqlite3.Connection, night: int) -> None:
    """Count the verdicts of a night no longer, before its rows are removed. A group that varied once is kept."""
    connection.execute(_COUNT, {"night": night, "sign": -1})


def read(nights: int) -> tuple[str, tuple[int]]:
    """Return the query for the verdicts of the varying groups in the latest nights, and its values.

    Its rows have ``name``, ``cell``, ``kernel``, ``verdict`` and ``times``; those with equal names must be added.
    """
    return _READ, (nights,)

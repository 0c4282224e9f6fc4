# SPDX-License-Identifier: GPL-2.0-only
"""What the page of a night shows: changes and problems in groups, what is missing, and the matrix of verdicts."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from urllib.parse import quote

from harness.nightly.again import command
from harness.nightly.cells import CellVerdicts, NightVerdicts, Ran
from harness.nightly.fingerprint import fingerprint
from harness.nightly.outcomes import Key, deciding
from harness.nightly.record import CaseChange, Cell, ChangeKind, Why
from harness.report.html import anchor
from harness.report.parts import MISS
from harness.report.splat_outline import outlines
from harness.report.text import one_line, without_numbers
from harness.report.timeline import Picture, picture
from harness.verdict import BAD, GOOD, KERNEL_AT_FAULT, CaseRecord, KernelRecord, Verdict

KINDS: dict[ChangeKind, str] = {
    "broken": "broken",
    "missing": "missing: judged before, not this night",
    "other": "changed",
    "new": "new",
    "fixed": "fixed",
}
"""The kinds of changes in the order of the page, with their headings."""
SLOWER, SLOWER_S = 1.5, 20.0
"""A cell is slower if it took this many times as long as expected, and this many seconds more."""

_SILENT = frozenset({"", str(Verdict.SKIP), MISS})
"""Verdicts that say nothing about a bug, and a cell that does not have the case."""
_ALL_THE_TIME = re.compile(r"(\d+) of \1")


@dataclass(frozen=True)
class Place:
    """A case as one run of a cell has judged it."""

    case: CaseRecord
    href: str
    """Its place in the report of the run, relative to the night's directory."""
    kernel: KernelRecord


@dataclass
class Column:
    """A cell of the plan: a column of the matrix."""

    verdicts: CellVerdicts

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.verdicts.cell

    @cached_property
    def places(self) -> dict[str, Place]:
        """Each case that a run has judged, by its id."""
        runs = [(ran.run, ran.record) for ran in self.verdicts.runs if ran.record]
        chosen = {id(case) for case in deciding(runs).values()}
        return {
            case.id: Place(case, f"{_report(ran)}#{anchor(number)}", ran.record.kernel)
            for ran in self.verdicts.runs
            if ran.record
            for number, case in enumerate(ran.record.cases)
            if id(case) in chosen
        }

    @cached_property
    def missing(self) -> list[str]:
        """The cases of the plan that no run has judged."""
        return [name for name in self.cell.cases if name not in self.places]

    @cached_property
    def tally(self) -> dict[str, int]:
        """How many cases have each verdict."""
        return _tally([*(str(place.case.verdict) for place in self.places.values()), *(MISS for _ in self.missing)])

    @property
    def why_missing(self) -> str:
        """Why its missing cases have no verdict."""
        return self.verdicts.why_missing()

    @property
    def runs(self) -> list[tuple[str, str]]:
        """The name and the report of each run that has a record."""
        return [(str(ran.run.why), _report(ran)) for ran in self.verdicts.runs if ran.record]

    @property
    def report(self) -> str:
        """The report of its first run; empty without one."""
        return next((href for _, href in self.runs), "")

    @property
    def seconds(self) -> float:
        """How long the runs that the plan asks for took."""
        return sum(ran.run.seconds or 0.0 for ran in self.verdicts.runs if ran.run.why is Why.PLAN)

    @property
    def slower(self) -> bool:
        """Whether it took much longer than expected."""
        expected = self.cell.expected_s
        return expected is not None and self.seconds > max(expected * SLOWER, expected + SLOWER_S)

    @property
    def second_try(self) -> list[str]:
        """The cases that were ERROR, and that a fresh machine has judged."""
        first = {case.id for ran in self.verdicts.runs[:1] if ran.record for case in _errors(ran.record.cases)}
        return [name for name in first if name in self.places and self.places[name].case.verdict is not Verdict.ERROR]

    def verdict(self, name: str) -> str:
        """Return the verdict of a case; MISS, or empty if the cell does not have it."""
        if name in self.places:
            return str(self.places[name].case.verdict)
        return MISS if name in self.missing_names else ""

    @cached_property
    def missing_names(self) -> frozenset[str]:
        """``missing``, to search in."""
        return frozenset(self.missing)


@dataclass
class Group:
    """The same news, or the same problem, in several cells or cases."""

    kind: ChangeKind | None
    """None: a problem that is not new."""
    before: str
    after: str
    reason: str
    members: list[tuple[str, str, str]] = field(default_factory=list)
    """The id of the case, the id of the cell, and the place in the report; empty without a record."""
    case: CaseRecord | None = None
    """The record of one of them."""
    again: str = ""
    """The command that runs it again."""
    rate: str = ""
    commit: str = ""
    last_good: str = ""

    def show(self, column: Column, name: str, place: Place) -> None:
        """Make this case the one that is shown."""
        self.case = place.case
        if place.case.verdict in KERNEL_AT_FAULT:
            self.again = command(column.cell, name, place.case, place.kernel)

    @property
    def cases(self) -> list[str]:
        """The ids of the cases."""
        return list(dict.fromkeys(case for case, _, _ in self.members))

    @property
    def by_cell(self) -> dict[str, list[tuple[str, str]]]:
        """The id of each case and its place in the report, by the id of the cell."""
        found: dict[str, list[tuple[str, str]]] = {}
        for case, cell, href in self.members:
            found.setdefault(cell, []).append((case, href))
        return found

    @property
    def title(self) -> str:
        """The rule that the first case tests, or its id."""
        return self.case.title if self.case else self.cases[0]

    @property
    def picture(self) -> Picture | None:
        """The timeline of one of the cases."""
        return picture(self.case.evidence) if self.case and self.after in BAD else None

    @property
    def splats(self) -> list[list[str]]:
        """The outlines of its splats."""
        return outlines(self.case.evidence) if self.case and self.after in BAD else []

    @property
    def colour_of(self) -> str:
        """The verdict whose colour the group has."""
        return self.after or self.before


@dataclass(frozen=True)
class Tree:
    """A tree of the plan: a row of the summary."""

    name: str
    kernels: list[str]
    """Its releases, as ``uname -r`` prints them."""
    changed: dict[ChangeKind, int]
    """How many cases have changed in each way."""
    tally: dict[str, int]
    """How many cases have each verdict."""


@dataclass(frozen=True)
class Row:
    """A case in the matrix."""

    case: str
    verdicts: list[tuple[str, str]]
    """The verdict in each column, and the place in the report for one that is bad."""
    plain: bool
    """Whether no verdict is bad or missing, and all cells agree. A cell that has not run at all does not count."""


class NightPage:
    """A night, as the template reads it."""

    def __init__(self, verdicts: NightVerdicts, blamed: Mapping[Key, str] | None = None) -> None:
        """``blamed``: the first bad commits that earlier nights have found: ``History.still_blamed``."""
        self._blamed = blamed or {}
        self.directory = verdicts.directory
        self.night = verdicts.night
        self.columns = [Column(cell) for cell in verdicts.cells]
        self._by_id = {column.cell.id: column for column in self.columns}

    @cached_property
    def tally(self) -> dict[str, int]:
        """How many cases have each verdict, in all cells."""
        return _sum(self.columns)

    @cached_property
    def changed(self) -> dict[ChangeKind, int]:
        """How many cases have changed in each way."""
        return _changed(self.night.changes)

    @property
    def when(self) -> str:
        """When the night began and ended; empty if its record does not say so."""
        try:
            began = datetime.fromisoformat(self.night.started).astimezone(UTC)
            ended = datetime.fromisoformat(self.night.ended).astimezone(UTC) if self.night.ended else None
        except ValueError:
            return ""
        return f"{began:%H:%M} to {ended:%H:%M} UTC" if ended else f"since {began:%H:%M} UTC"

    @cached_property
    def summary(self) -> list[Tree]:
        """The trees, in the order of the plan."""
        trees: dict[str, list[Column]] = {}
        for column in self.columns:
            trees.setdefault(column.cell.tree, []).append(column)
        return [self._tree(name, columns) for name, columns in trees.items()]

    def _tree(self, name: str, columns: Sequence[Column]) -> Tree:
        cells = {column.cell.id for column in columns}
        kernels = dict.fromkeys(record.kernel.release for column in columns for _, record in column.verdicts.recorded)
        changed = _changed(change for change in self.night.changes if change.cell in cells)
        return Tree(name, list(kernels), changed, _sum(columns))

    @cached_property
    def changes(self) -> list[tuple[str, list[Group]]]:
        """The groups of changes under their headings, the worst first."""
        found: dict[Hashable, Group] = {}
        for change in self.night.changes:
            column = self._by_id.get(change.cell)
            place = column.places.get(change.case) if column and change.after != MISS else None
            group = found.setdefault(_key(change), _group(change))
            group.members.append((change.case, change.cell, place.href if place else column.report if column else ""))
            if group.case is None and column and place:
                group.show(column, change.case, place)
        order = list(KINDS)
        groups = sorted(found.values(), key=lambda group: (order.index(group.kind or "other"), group.after not in BAD))
        return [
            (KINDS[kind], list(each)) for kind, each in groupby(groups, lambda group: group.kind) if kind is not None
        ]

    @cached_property
    def problems(self) -> list[Group]:
        """The groups of bad verdicts that are not among the changes."""
        changed = {(change.cell, change.case) for change in self.night.changes}
        found: dict[Hashable, Group] = {}
        for column in self.columns:
            for name, place in column.places.items():
                case = place.case
                if case.verdict not in BAD or (column.cell.id, name) in changed:
                    continue
                splat, commit = fingerprint(case), self._blamed.get((column.cell.id, name), "")
                key: Hashable = (case.verdict, name, _without_numbers(case.reason))
                if cause := commit or splat:
                    key = (case.verdict, cause)
                group = found.setdefault(key, Group(None, "", str(case.verdict), case.reason, commit=commit))
                if group.case is None:
                    group.show(column, name, place)
                group.members.append((name, column.cell.id, place.href))
        return list(found.values())

    def trees(self, cases: Iterable[str], present: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the trees in which a case has one of the verdicts ``present``, and those in which all are good.

        The first answers which kernels have a bug, the second which do not. A tree that has not judged them is in none,
        nor is one that has judged them only where no tree shows the bug: a release kernel does not see what KASAN sees.
        """
        shows = {str(verdict) for verdict in present}
        names = list(cases)
        judged = [(column.cell, {column.verdict(name) for name in names}) for column in self.columns]
        seen = {(cell.flavour, cell.machine, cell.qemu) for cell, verdicts in judged if verdicts & shows}
        found: dict[str, set[str]] = {}
        for cell, verdicts in judged:
            if (cell.flavour, cell.machine, cell.qemu) in seen:
                found.setdefault(cell.tree, set()).update(verdicts)
        having = [tree for tree, verdicts in found.items() if verdicts & shows]
        return having, [tree for tree, verdicts in found.items() if verdicts & GOOD and not verdicts - GOOD - _SILENT]

    def trees_of(self, group: Group) -> list[str]:
        """Return the trees of the members of a group."""
        cells = dict.fromkeys(cell for _, cell, _ in group.members)
        return list(dict.fromkeys(self._by_id[cell].cell.tree for cell in cells if cell in self._by_id))

    @cached_property
    def known_issues(self) -> list[tuple[str, list[str], list[str]]]:
        """Each known issue that a case has shown, with the trees that have it and those that do not."""
        cases: dict[str, dict[str, None]] = {}
        for column in self.columns:
            for name, place in column.places.items():
                if place.case.known_issue:
                    cases.setdefault(place.case.known_issue, {})[name] = None
        return [(issue, *self.trees(names, {Verdict.KNOWN})) for issue, names in sorted(cases.items())]

    @cached_property
    def missing(self) -> list[tuple[Column, list[str]]]:
        """The cells with cases that no run has judged and that are not among the changes, with these cases."""
        changed = {(change.cell, change.case) for change in self.night.changes}
        found = (
            (column, [name for name in column.missing if (column.cell.id, name) not in changed])
            for column in self.columns
        )
        return [(column, names) for column, names in found if names]

    @cached_property
    def flaky(self) -> list[tuple[str, str, list[str]]]:
        """The cases that fail in some runs only: the id, how often, and the cells."""
        found: dict[tuple[str, str], list[str]] = {}
        for each in self.night.changes:
            if each.rate and not _ALL_THE_TIME.fullmatch(each.rate):
                found.setdefault((each.case, each.rate), []).append(each.cell)
        return [(case, rate, cells) for (case, rate), cells in found.items()]

    @cached_property
    def second_tries(self) -> list[tuple[Column, list[str]]]:
        """The cells with cases that were ERROR, and that a fresh machine has judged."""
        return [(column, names) for column in self.columns if (names := column.second_try)]

    @cached_property
    def slower(self) -> list[Column]:
        """The cells that took much longer than expected."""
        return [column for column in self.columns if column.slower]

    @cached_property
    def rows(self) -> list[Row]:
        """The matrix, in the order of the plan."""
        names = dict.fromkeys(name for column in self.columns for name in [*column.cell.cases, *column.places])
        return [self._row(name) for name in names]

    def _row(self, name: str) -> Row:
        found = {column.verdict(name) for column in self.columns if column.places} - {"", str(Verdict.SKIP)}
        plain = len(found) <= 1 and not found & {*BAD, MISS}
        return Row(name, [self._entry(column, name) for column in self.columns], plain)

    @property
    def heads(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """The rows of the matrix's head that span columns: what they name, and each name with its columns."""
        names = [("tree", [column.cell.tree for column in self.columns])]
        names.append(("flavour", [column.cell.flavour for column in self.columns]))
        return [(what, [(name, len(list(each))) for name, each in groupby(row)]) for what, row in names]

    def name(self, column: Column) -> str:
        """Return what the last row of the matrix's head says of a column."""
        cells = [each.cell for each in self.columns]
        cell = column.cell
        several = [(cell.suite, {each.suite for each in cells}), (cell.qemu or "", {each.qemu or "" for each in cells})]
        return " ".join([cell.machine, *(value for value, known in several if value and len(known) > 1)])

    @staticmethod
    def _entry(column: Column, name: str) -> tuple[str, str]:
        verdict = column.verdict(name)
        return verdict, column.places[name].href if verdict in BAD else ""


def _report(ran: Ran) -> str:
    return f"{quote(ran.run.directory)}/report.html"


def _errors(cases: Iterable[CaseRecord]) -> Iterator[CaseRecord]:
    return (case for case in cases if case.verdict is Verdict.ERROR)


def _sum(columns: Iterable[Column]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for column in columns:
        total.update(column.tally)
    return _tally(total.elements())


def _changed(changes: Iterable[CaseChange]) -> dict[ChangeKind, int]:
    counts = Counter(change.kind for change in changes)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def _tally(verdicts: Iterable[str]) -> dict[str, int]:
    counts = Counter(verdicts)
    return {verdict: counts[verdict] for verdict in (*map(str, Verdict), MISS) if counts[verdict]}


def _key(change: CaseChange) -> Hashable:
    if change.after == MISS:
        return (change.kind, change.cell, change.reason)
    if change.commit:
        return (change.kind, change.after, change.commit)
    if change.fingerprint:
        return (change.kind, change.after, change.fingerprint)
    if change.after in BAD:
        return (change.kind, change.before, change.after, change.case, _without_numbers(change.reason))
    return (change.kind, change.before, change.after, change.reason)


def _group(change: CaseChange) -> Group:
    return Group(
        change.kind,
        change.before,
        change.after,
        change.reason,
        rate=change.rate,
        commit=change.commit,
        last_good=change.last_good,
    )


def _without_numbers(text: str) -> str:
    return without_numbers(one_line(text, 400))


def first(items: Sequence[str], most: int) -> str:
    """Return the first items in one line, and how many more there are."""
    shown = ", ".join(one_line(item, 120) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"

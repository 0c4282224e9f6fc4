# SPDX-License-Identifier: GPL-2.0-only
"""What the cases know of each changed line: which of them reach it, or why none does."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.bugs.statements import Statement, function_lines, statements
from harness.commands.review_source import Reviewed
from harness.config.kernel_path import KernelPath
from harness.gcov.counters import Reached
from harness.gcov.measure import FunctionCoverage, KernelCoverage, measure
from harness.gcov.reasons import Kind, Reason
from harness.kernel.source.difference import FileDifference
from harness.report.review import LineState, ReviewedLine

UNREACHABLE = (Kind.IMPOSSIBLE, Kind.ASSERTION)
"""The kinds of reasons with which no machine reaches a line."""

NOT_C = "it is no C"
NOT_COMPILED = "this kernel does not compile the file"
NO_STATEMENT = "a comment, a declaration, a macro, data or a brace"
NO_CODE_LEFT = "the compiler leaves no code of it in this configuration"


@dataclass
class LineCounters:
    """The counters of the changed files, over the runs so far."""

    reviewed: Reviewed
    lines: dict[str, dict[int, set[Reached]]] = field(default_factory=lambda: defaultdict(dict))
    """For each file, each line that has a counter, with the cases that reach it."""
    branches: dict[str, dict[tuple[int, int], set[Reached]]] = field(default_factory=lambda: defaultdict(dict))
    """For each file, each branch by its line and its index there, with the cases that take it."""

    def __post_init__(self) -> None:
        self.statements: dict[str, dict[int, Statement]] = {
            file: statements(text, self.reviewed.changed[file]) for file, text in self.reviewed.sources.items()
        }
        self._functions = {file: function_lines(text) for file, text in self.reviewed.sources.items()}

    def add(self, run: Path) -> None:
        """Add the counters of a run on the changed kernel. Raises what ``measure`` raises."""
        path = KernelPath(kernels=">=0", files={file: ["*"] for file in self.reviewed.sources})
        for function in measure([run], path).functions.values():
            for line, cases in function.lines.items():
                self.lines[function.file].setdefault(line, set()).update(cases)
            for branch, cases in function.branches.items():
                self.branches[function.file].setdefault(branch, set()).update(cases)

    def counter(self, file: str, line: int) -> int | None:
        """Return the line whose counter counts this line: itself, or the first of its statement; None without any."""
        counted = self.lines.get(file, {})
        statement = self.statements.get(file, {}).get(line)
        if line in counted:
            return line
        return statement.line if statement and statement.line in counted else None

    def has_untaken(self) -> bool:
        """Return whether a changed line is reached and a branch of it is not taken."""
        return any(
            line in self.reviewed.changed[file] and self.lines[file][line] and not taken
            for file, branches in self.branches.items()
            for (line, _), taken in branches.items()
        )

    def function(self, file: str, line: int) -> str:
        """Return the function of a line; empty outside functions."""
        return next((name for name, lines in self._functions.get(file, []) if line in lines), "")

    def as_coverage(self) -> KernelCoverage:
        """Return the changed lines with their functions, as the runs of mutants take them."""
        found = KernelCoverage()
        for file, lines in self.reviewed.changed.items():
            for name, rows in self._functions[file]:
                counted = {line: counter for line in rows for counter in [self._counter_near(file, line, rows)]}
                if lines & {*rows}:
                    cases = {line: self.lines[file][at] for line, at in counted.items() if at is not None}
                    taken = {at: each for at, each in self.branches[file].items() if at[0] in cases}
                    found.functions[file, name] = FunctionCoverage(file, name, cases, taken)
        return found

    def _counter_near(self, file: str, line: int, rows: Sequence[int]) -> int | None:
        """Return the counter of a line of a function, or the last one before it: a mutant may start above a change."""
        if (own := self.counter(file, line)) is not None:
            return own
        counted = self.lines.get(file, {})
        return max((each for each in rows if each <= line and each in counted), default=None)


def judged_lines(counters: LineCounters, reasons: Sequence[Reason]) -> Iterator[ReviewedLine]:
    """Yield every line that the change adds or rewrites, in the order of the diff."""
    for difference in counters.reviewed.differences:
        for hunk in difference.hunks:
            for line in hunk:
                if line.sign == "+" and line.new is not None:
                    yield _judged(counters, difference, line.new, line.text, reasons)


def _judged(
    counters: LineCounters, difference: FileDifference, line: int, text: str, reasons: Sequence[Reason]
) -> ReviewedLine:
    file = difference.name
    at = counters.counter(file, line)
    if at is None:
        why = _no_code(counters, difference, line)
        return ReviewedLine(file=file, line=line, text=text, state=LineState.NO_CODE, reason=why)
    function = counters.function(file, line)
    cases = sorted(map(named, counters.lines[file][at]))
    if cases:
        return ReviewedLine(file=file, line=line, text=text, function=function, state=LineState.REACHED, cases=cases)
    reason = reason_of(reasons, file, function, text)
    state = LineState.UNREACHABLE if reason and reason.kind in UNREACHABLE else LineState.NOT_REACHED
    said = f"{reason.kind}: {reason.reason}" if reason else ""
    return ReviewedLine(file=file, line=line, text=text, function=function, state=state, reason=said)


def _no_code(counters: LineCounters, difference: FileDifference, line: int) -> str:
    if difference.name not in counters.reviewed.sources:
        return NOT_C
    if line not in counters.statements[difference.name]:
        return NO_STATEMENT
    return NO_CODE_LEFT if counters.lines.get(difference.name) else NOT_COMPILED


def reason_of(reasons: Sequence[Reason], file: str, function: str, text: str) -> Reason | None:
    """Return the entry of vm-configs/unreached.yaml about a line; None if there is none."""
    owner = FunctionCoverage(file, function)
    return next((each for each in reasons if each.pattern_for(owner, text.strip())), None)


def named(case: Reached) -> str:
    """Return a case with its machine."""
    return f"{case.id} on {case.place}"

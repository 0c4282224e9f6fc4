# SPDX-License-Identifier: GPL-2.0-only
"""Read vm-configs/unreached.yaml: why no case reaches a line or a branch of the kernel's export path."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, Releases, includes, load, matches
from harness.gcov.measure import FunctionCoverage, KernelCoverage

PATH = paths.VM_CONFIGS / "unreached.yaml"


class Kind(StrEnum):
    """What would have to change for a case to reach a line."""

    IMPOSSIBLE = "impossible"
    """The callers, or the compiler, leave no way to it."""
    ASSERTION = "assertion"
    """Only a bug of the kernel reaches it; a splat then shows it."""
    ALLOCATION = "allocation"
    """Only a failed allocation reaches it, and the cases with --fail-nth make none fail there."""
    ELSEWHERE = "elsewhere"
    """Another machine, kernel configuration or driver than the suite has reaches it."""
    OPEN = "open"
    """A case could reach it, and none does so far."""


class Reason(Model):
    """Why nothing reaches some lines of a function, or some of their branches. ``*`` matches any text in each key."""

    kernels: Releases
    """The releases that this holds for."""
    file: str
    """The file, relative to the source tree."""
    function: str = "*"
    """The function."""
    code: Annotated[list[str], Field(min_length=1)]
    """The lines as they stand in the source, without indentation."""
    kind: Kind
    """What would have to change."""
    reason: str
    """What makes them unreachable, or which machine or kernel reaches them."""

    def speaks_of(self, function: FunctionCoverage) -> bool:
        """Return whether it is about lines of a function."""
        return matches([self.file], function.file) and matches([self.function], function.name)

    def pattern_for(self, function: FunctionCoverage, text: str) -> str | None:
        """Return the pattern of ``code`` that matches a line of a function; None if none does."""
        if not self.speaks_of(function):
            return None
        return next((pattern for pattern in self.code if matches([pattern], text)), None)


class _File(Model):
    reasons: list[Reason]


def load_reasons(release: str) -> list[Reason]:
    """Return the reasons for a kernel release. Raises UsageError naming file, line and key."""
    return [reason for reason in load(PATH, _File).reasons if includes(reason.kernels, release)]


@dataclass(frozen=True)
class Gap:
    """A line that no case reaches, or a line of which no case takes a branch."""

    file: str
    function: str
    line: int
    text: str
    reached: bool
    """Whether a case reaches the line, if not all of its branches."""
    branches: int
    """How many of its branches are not taken."""
    reason: Reason | None
    """The entry that says why; None if none does."""

    @property
    def count(self) -> int:
        """How often it counts: once for an unreached line, else once for each branch."""
        return self.branches if self.reached else 1


@dataclass(frozen=True)
class Stale:
    """A pattern that matches nothing that is unreached."""

    entry: Reason
    pattern: str


@dataclass(frozen=True)
class Gaps:
    """What is not reached, and the reasons that are no longer true."""

    found: list[Gap]
    stale: list[Stale]

    @property
    def unexplained(self) -> int:
        """Lines and branches without a reason."""
        return sum(gap.count for gap in self.found if not gap.reason)

    def count(self, kind: Kind) -> int:
        """Lines and branches with a reason of this kind."""
        return sum(gap.count for gap in self.found if gap.reason and gap.reason.kind is kind)

    @property
    def impossible_branches(self) -> int:
        """Branches that no case can take on a kernel without a bug, those of unreached lines included."""
        kinds = (Kind.IMPOSSIBLE, Kind.ASSERTION)
        return sum(gap.branches for gap in self.found if gap.reason and gap.reason.kind in kinds)


def find_gaps(coverage: KernelCoverage, reasons: Iterable[Reason]) -> Gaps:
    """Return every line and branch that no case reaches, with its reason. An entry before another is preferred."""
    entries = list(reasons)
    used: set[tuple[int, str]] = set()
    found = []
    for function, number, reached, missed in _unreached(coverage):
        text = coverage.sources[function.file][number - 1].strip()
        reason = None
        for index, entry in enumerate(entries):
            if pattern := entry.pattern_for(function, text):
                used.add((index, pattern))
                reason = entry
                break
        found.append(Gap(function.file, function.name, number, text, reached, missed, reason))
    stale = [
        Stale(entry, pattern)
        for index, entry in enumerate(entries)
        if any(map(entry.speaks_of, coverage.functions.values()))
        for pattern in entry.code
        if (index, pattern) not in used
    ]
    return Gaps(found, stale)


def _unreached(coverage: KernelCoverage) -> Iterator[tuple[FunctionCoverage, int, bool, int]]:
    """Yield function and line of each gap, whether the line is reached, and how many of its branches are not taken."""
    for function in coverage.functions.values():
        for number, cases in sorted(function.lines.items()):
            missed = sum(1 for (line, _), taken in function.branches.items() if line == number and not taken)
            if not cases or missed:
                yield function, number, bool(cases), missed

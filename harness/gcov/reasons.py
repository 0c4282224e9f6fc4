# SPDX-License-Identifier: GPL-2.0-only
"""Read vm-configs/unreached.yaml: why no case reaches a line or a branch of the kernel's export path."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, Releases, includes, load
from harness.gcov.measure import FunctionCoverage, KernelCoverage

PATH = paths.VM_CONFIGS / "unreached.yaml"


class Reason(Model):
    """Why nothing reaches some lines of a function, or some of their branches."""

    kernels: Releases
    """The releases that this holds for."""
    file: str
    """The file, relative to the source tree."""
    function: str
    """The function."""
    code: Annotated[list[str], Field(min_length=1)]
    """The lines as they stand in the source, without indentation. ``*`` is every line of the function."""
    reason: str
    """What makes them unreachable, or which machine or kernel reaches them."""

    def covers(self, function: FunctionCoverage, text: str) -> bool:
        """Return whether it speaks of a line of a function."""
        here = (self.file, self.function) == (function.file, function.name)
        return here and ("*" in self.code or text in self.code)


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
    branches: int
    """How many of its branches are not taken; 0 if the line itself is not reached."""
    reason: str
    """Why; empty if no entry says so."""


@dataclass(frozen=True)
class Gaps:
    """What is not reached, and the reasons that are no longer true."""

    found: list[Gap]
    stale: list[Reason]
    """Entries that speak of nothing that is unreached."""

    @property
    def unexplained(self) -> int:
        """Lines and branches without a reason."""
        return sum(max(gap.branches, 1) for gap in self.found if not gap.reason)


def find_gaps(coverage: KernelCoverage, reasons: Iterable[Reason]) -> Gaps:
    """Return every line and branch that no case reaches, with its reason."""
    entries = list(reasons)
    used: set[int] = set()
    found = []
    for function in coverage.functions.values():
        lines = coverage.sources[function.file]
        for number, cases in sorted(function.lines.items()):
            missed = sum(1 for (line, _), taken in function.branches.items() if line == number and not taken)
            if cases and not missed:
                continue
            text = lines[number - 1].strip()
            index = next((at for at, entry in enumerate(entries) if entry.covers(function, text)), None)
            if index is not None:
                used.add(index)
            reason = entries[index].reason if index is not None else ""
            found.append(Gap(function.file, function.name, number, text, missed if cases else 0, reason))
    present = {(function.file, function.name) for function in coverage.functions.values()}
    stale = [entry for at, entry in enumerate(entries) if at not in used and (entry.file, entry.function) in present]
    return Gaps(found, stale)

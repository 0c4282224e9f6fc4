# SPDX-License-Identifier: GPL-2.0-only
"""From counters to lines and branches, by the compiler's own gcov."""

import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.kernel_path import KernelPath
from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.gcov.counters import DIRECTORY, NOTES, Reached, cases

HANDLER_PREFIX = "ib_uverbs_handler_"
"""What UVERBS_HANDLER puts before a method's name (include/rdma/uverbs_named_ioctl.h)."""
GCOV_TIMEOUT_S = 60.0

Branch = tuple[int, int]
"""A line, and the number of the branch on it."""


@dataclass
class FunctionCoverage:
    """One function of the path. Each line and branch has the cases that reached it."""

    file: str
    name: str
    lines: dict[int, set[Reached]] = field(default_factory=dict)
    branches: dict[Branch, set[Reached]] = field(default_factory=dict)

    @property
    def line_count(self) -> tuple[int, int]:
        """Lines reached, and lines."""
        return sum(map(bool, self.lines.values())), len(self.lines)

    @property
    def branch_count(self) -> tuple[int, int]:
        """Branches reached, and branches."""
        return sum(map(bool, self.branches.values())), len(self.branches)

    def counted(self, line: int) -> list[int]:
        """Return a line if it has a counter, else the nearest ones before and after it that have."""
        if line in self.lines:
            return [line]
        before, after = (at for at in self.lines if at < line), (at for at in self.lines if at > line)
        return [at for at in (max(before, default=None), min(after, default=None)) if at is not None]

    def reaching(self, line: int, *, fail_nth: bool) -> set[Reached]:
        """Return the cases that reached a line with a counter: see `KernelCoverage.reaching`."""
        cases = self.lines[line]
        if not fail_nth:
            return {case for case in cases if not case.fail_nth}
        branches = (taken for (at, _), taken in self.branches.items() if at == line)
        return {case for each in (cases, *branches) if all(case.fail_nth for case in each) for case in each}


@dataclass
class KernelCoverage:
    """The path of one kernel, over one run or several. ``sources``: each file's lines."""

    functions: dict[tuple[str, str], FunctionCoverage] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)

    @property
    def line_count(self) -> tuple[int, int]:
        """Lines reached, and lines, of all functions."""
        return _added(function.line_count for function in self.functions.values())

    @property
    def branch_count(self) -> tuple[int, int]:
        """Branches taken, and branches, of all functions."""
        return _added(function.branch_count for function in self.functions.values())

    @property
    def machines(self) -> set[str]:
        """The names of the machines on which a case reached something."""
        return {case.machine for found in self.functions.values() for cases in found.lines.values() for case in cases}

    def reaching(self, file: str, function: str, line: int, *, fail_nth: bool = False) -> set[Reached]:
        """Return the cases that reached a line in a run without ``--fail-nth``.

        gcov has no counter for a line without code of its own, such as a ``return -EINVAL;`` that shares the function's
        last return: for it, the cases of the nearest lines that have one. For an inlined function: those of its file.
        ``fail_nth``: those that reached the line, or took a branch of it, only in a run with that option."""
        found = self.functions.get((file, function))
        if not found:
            inlined = [each for (of, _), each in self.functions.items() if of == file]
            return {case for each in inlined for at in each.lines for case in each.reaching(at, fail_nth=fail_nth)}
        return {case for at in found.counted(line) for case in found.reaching(at, fail_nth=fail_nth)}

    def add(self, case: Reached, path: KernelPath, found: Mapping[str, Any]) -> None:
        """Add what gcov says of one case. ``found``: gcov's JSON of one object."""
        for file in found["files"]:
            source = next((name for name in path.files if f"/{file['file']}".endswith(f"/{name}")), "")
            if not source:  # a header's lines are most of them
                continue
            names = path.files[source]
            for line in file["lines"]:
                name = str(line.get("function_name", "")).removeprefix(HANDLER_PREFIX)
                # GCC gives clones names of their own: function.part.0, function.isra.0.
                name = name.partition(".")[0]
                if name in names or "*" in names:
                    self._count(case, source, name, line)

    def _count(self, case: Reached, file: str, name: str, line: Mapping[str, Any]) -> None:
        function = self.functions.setdefault((file, name), FunctionCoverage(file, name))
        number = int(line["line_number"])
        reached = function.lines.setdefault(number, set())
        if line["count"]:
            reached.add(case)
        for index, branch in enumerate(line["branches"]):
            taken = function.branches.setdefault((number, index), set())
            if branch["count"]:
                taken.add(case)


def _added(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(counts)
    return sum(reached for reached, _ in pairs), sum(total for _, total in pairs)


def measure(runs: Iterable[Path], path: KernelPath) -> KernelCoverage:
    """Read the counters of ``runs``.

    Raises UsageError for a run without counters, or of another source than the first; MissingPrerequisite without
    gcov; HarnessError where gcov fails."""
    coverage = KernelCoverage()
    for run in runs:
        notes = require_counters(run)
        with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
            _read_run(run, notes, Path(tmp), path, coverage)
    return coverage


def require_counters(run: Path) -> Path:
    """Return the notes of a run with counters. Raises UsageError for a run without."""
    notes = run / DIRECTORY / NOTES
    if not notes.is_file():
        raise UsageError(f"{run} has no kernel coverage", hint="run it with FLAVOUR=coverage, or --flavour coverage")
    return notes


def _read_run(run: Path, notes: Path, tmp: Path, path: KernelPath, coverage: KernelCoverage) -> None:
    """Read a run's cases, several at a time: each gcov has a directory of its own below ``tmp``, with the notes."""
    directories = [tmp / str(number) for number in range(len(os.sched_getaffinity(0)))]
    for directory in directories:
        with zipfile.ZipFile(notes) as archive:
            archive.extractall(directory)
    for name in path.files:
        if (source := directories[0] / name).is_file():
            lines = source.read_text(errors="replace").splitlines()
            if coverage.sources.setdefault(name, lines) != lines:
                raise UsageError(f"{run}: {name} differs from that of the runs before it")
    # The lines of a header are counted in the objects that include it.
    wanted = None if any(name.endswith(".h") for name in path.files) else {f"{name[:-2]}.gcda" for name in path.files}
    found = [*cases(run)]
    with ThreadPoolExecutor(len(directories)) as pool:
        for at in range(0, len(found), len(directories)):
            group = found[at : at + len(directories)]
            outputs = pool.map(_gcov, (archive for _, archive in group), directories, [wanted] * len(group))
            for (case, _), output in zip(group, outputs, strict=True):
                for line in output.splitlines():
                    coverage.add(case, path, json.loads(line))


def _gcov(archive_path: Path, tmp: Path, wanted: set[str] | None) -> bytes:
    """Return gcov's JSON, a line for each object. ``tmp`` has the notes. ``wanted``: the .gcda files; None for all."""
    with zipfile.ZipFile(archive_path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gcda") and (not wanted or name in wanted)]
        for name in names:
            archive.extract(name, tmp)
    if not names:
        return b""
    command = ["gcov", "--json-format", "--stdout", "--branch-probabilities", *names]
    try:
        ended = subprocess.run(command, cwd=tmp, capture_output=True, check=False, timeout=GCOV_TIMEOUT_S)
    except FileNotFoundError:
        raise MissingPrerequisite("no gcov in PATH", hint="apt-get install gcc") from None
    finally:
        for name in names:
            (tmp / name).unlink()
    if ended.returncode:
        raise HarnessError(f"gcov failed: {ended.stderr.decode(errors='replace').strip()[:400]}")
    return ended.stdout

# SPDX-License-Identifier: GPL-2.0-only
"""The runs of a review on the changed kernel with counters: on the chosen machine, then where a line may be reached."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness import kernel
from harness.bugs import Bug, load_bugs
from harness.bugs.counted import CountedLines
from harness.bugs.related import about
from harness.cases.collect import collect
from harness.commands.bug_cases import nodes_of
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.commands.review_lines import LineCounters, judged_lines
from harness.commands.review_mutants import Place
from harness.commands.review_source import Reviewed
from harness.config import known_machines, load_machine
from harness.errors import KernelBuildError, KernelLacksFeature
from harness.gcov.reasons import Kind, Reason
from harness.kernel.model import SourceChange
from harness.progress import Emit, Note, phase
from harness.report.review import LineState, ReviewedLine
from harness.report.text import tally
from harness.run.fail_nth import listed_nodes
from harness.run.options import Options

WORKSPACE = "review"
FLAVOUR: kernel.Flavour = "coverage"


def obtain(options: Options, change: SourceChange | None, emit: Emit) -> kernel.Kernel:
    """Build in a workspace that no other run changes: every run of a review boots from it."""
    arch = load_machine(options.machine).arch
    return kernel.obtain(kernel.KernelSpec(options.kernel, FLAVOUR, change, WORKSPACE, arch), emit)


def counted_kernel(options: Options, reviewed: Reviewed, emit: Emit) -> kernel.Kernel:
    """Build the changed kernel with counters. Raises what a kernel's build raises: KernelError if it does not build."""
    with suppress(KernelLacksFeature):  # the base of a series that adds the export; its workspace is then built whole
        arch = load_machine(options.machine).arch
        kernel.obtain(kernel.KernelSpec(options.kernel, FLAVOUR, arch=arch), emit)
    lines = {file: lines for file, lines in reviewed.changed.items() if lines}
    try:
        return obtain(options, reviewed.with_part(CountedLines(lines)), emit)
    except KernelBuildError:
        unmarked: dict[str, set[int]] = {file: set() for file in lines}
        built = obtain(options, reviewed.with_part(CountedLines(unmarked)), emit)  # raises if the change is at fault
        emit(Note("review   a mark of the changed lines does not compile: lines without a counter count as no code"))
        return built


class CoverageRuns:
    """The runs so far, with the lines that they have reached."""

    def __init__(
        self, options: Options, built: kernel.Kernel, counters: LineCounters, directory: Path, emit: Emit
    ) -> None:
        """``options``: the user's. ``directory``: that of the review."""
        self._options = replace(
            options, kernel=str(built.build_dir), flavour=FLAVOUR, series=None, fixed=False, expression=None, jobs=None
        )
        self._expression = options.expression
        self._kernel = built
        self.counters = counters
        self._directory = directory
        self._emit = emit
        self.places: list[Place] = []

    def run(self) -> None:
        """Run the suite on the machine of the options, or the cases of ``-k``."""
        own = replace(self._options, expression=self._expression)
        self._run([Task("coverage", own, self._directory / "coverage", jobs=None)])

    def run_elsewhere(self, reasons: Sequence[Reason]) -> None:
        """Run the other machines that have something to say, then failing allocations, if a line or branch is left."""
        if machines := self._machines([*judged_lines(self.counters, reasons)]):
            self._run([self._elsewhere(name, cases) for name, cases in machines.items()])
        lines = judged_lines(self.counters, reasons)
        left = [line for line in lines if line.state is LineState.NOT_REACHED]
        unreached = any(not line.reason.startswith(Kind.ELSEWHERE) for line in left)
        if (unreached or self.counters.has_untaken()) and self._kernel.features["failslab"]:
            failing = replace(self._options, fail_nth=True)
            self._run([Task("coverage-fail-nth", failing, self._directory / "coverage-fail-nth", listed_nodes(), None)])

    def _elsewhere(self, machine: str, cases: Sequence[str]) -> Task:
        options = replace(self._options, machine=machine, focus=not cases)
        return Task(f"coverage-{machine}", options, self._directory / f"coverage-{machine}", cases)

    def _machines(self, lines: Sequence[ReviewedLine]) -> dict[str, Sequence[str]]:
        """Return other machines, with the node ids of their cases; none for those of the machine's focus.

        Those of known bugs in the changed functions, for the cases that show them, and those that the reasons of
        unreached lines name."""
        own = load_machine(self._options.machine)
        bugs: dict[str, list[Bug]] = defaultdict(list)
        for bug in about({line.function for line in lines} - {""}, load_bugs()):
            if bug.machine != own.name and load_machine(bug.machine).arch == own.arch:
                bugs[bug.machine].append(bug)
        collected = collect() if bugs else []
        found: dict[str, Sequence[str]] = {machine: nodes_of(group, collected) for machine, group in bugs.items()}
        reasons = [line.reason for line in lines if line.state is LineState.NOT_REACHED]
        for name in known_machines():
            named = any(re.search(rf"\b{name}\b", reason) for reason in reasons)
            if named and name != own.name and load_machine(name).arch == own.arch:
                found[name] = ()
        return found

    def _run(self, tasks: Sequence[Task]) -> None:
        def on_end(task: Task, end: Ended) -> None:
            record = end.require()
            place = Place(task.options, record)
            self.places.append(place)
            self.counters.add(task.directory / "latest")
            self._emit(Note(f"{place}: {tally(record.summary)}"))

        with phase(self._emit, "coverage", ", ".join(task.name for task in tasks)) as step:
            run_all(
                tasks,
                1 if len(tasks) == 1 else len(os.sched_getaffinity(0)),
                on_end,
                shown_in(step),
            )

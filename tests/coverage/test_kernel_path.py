# SPDX-License-Identifier: GPL-2.0-only
"""Each line and branch of the kernel's export path has a case that reaches it, or a reason (``make kernel-coverage``).

Runs every case on the default machine, and on each other machine those that it is for, on a kernel of FLAVOUR=coverage
with the fixes of known bugs, which hide code. Some cases also run with each of their allocations failing in turn, which
reaches error paths (vm-configs/fail-nth.yaml). The runs, and the page of the merged coverage, stay in results/.
"""

import os
from dataclasses import replace

import pytest

from harness import paths
from harness.commands.children import Ended, Task, run_all
from harness.config import DEFAULT_ARCH, DEFAULT_MACHINE, known_machines, load_machine
from harness.config.kernel_path import kernel_path
from harness.gcov.measure import KernelCoverage, measure
from harness.gcov.reasons import Gaps, find_gaps, load_reasons
from harness.progress import Note, phase
from harness.report import RunDirectory, Terminal
from harness.report.coverage_page import render, shares
from harness.report.record import write_report
from harness.report.text import tally
from harness.run.fail_nth import listed_nodes
from harness.run.options import Options

LINES = 0.95
"""The share of the lines that the cases must reach."""
BRANCHES = 0.85
"""The share of the branches that they must take. Those that only a kernel with a bug takes do not count."""


@pytest.fixture(scope="module")
def measured() -> tuple[KernelCoverage, Gaps]:
    """What the runs on all machines reach together, and what they do not."""
    directory = RunDirectory(paths.results_dir())
    options = Options(flavour="coverage", fixed=True, kernel=os.environ.get("KERNEL", Options().kernel))
    tasks = [
        Task(name, replace(options, machine=name, focus=name != DEFAULT_MACHINE), directory.path / name)
        for name in known_machines()
        if load_machine(name).arch == DEFAULT_ARCH
    ]
    failing = replace(options, fail_nth=True)
    tasks.append(Task("fail-nth", failing, directory.path / "fail-nth", listed_nodes()))
    ended: dict[str, Ended] = {}
    with Terminal({}) as terminal, phase(terminal.emit, "kernel-coverage", f"{len(tasks)} runs") as step:

        def on_end(task: Task, end: Ended) -> None:
            ended[task.name] = end
            if end.record:
                terminal.emit(Note(f"{task.name}: {tally(end.record.summary)}"))

        run_all(
            tasks,
            os.cpu_count() or 1,
            on_end,
            lambda running: step.progress(f"{len(ended)} of {len(tasks)}; {'; '.join(map(str, running))}"),
        )
    records = [end.require() for end in ended.values()]
    release = records[0].kernel.release
    found = measure([directory.path / name / "latest" for name in ended], kernel_path(release))
    gaps = find_gaps(found, load_reasons(release))
    write_report(
        directory.path / "kernel-coverage.html", render(found, gaps, release, [record.run_id for record in records])
    )
    print(shares(found, gaps))
    return found, gaps


def test_the_cases_reach_most_of_the_path(measured: tuple[KernelCoverage, Gaps]) -> None:
    found, gaps = measured
    (reached, lines), (taken, branches) = found.line_count, found.branch_count
    assert reached / lines >= LINES, shares(found, gaps)
    assert taken / (branches - gaps.impossible_branches) >= BRANCHES, shares(found, gaps)


def test_a_line_or_branch_has_a_case_or_a_reason(measured: tuple[KernelCoverage, Gaps]) -> None:
    _, gaps = measured
    assert [f"{gap.file}:{gap.line}: {gap.text}" for gap in gaps.found if not gap.reason] == []


def test_a_line_or_branch_with_a_reason_is_not_reached(measured: tuple[KernelCoverage, Gaps]) -> None:
    _, gaps = measured
    assert [f"{stale.entry.function}: {stale.pattern}" for stale in gaps.stale] == []

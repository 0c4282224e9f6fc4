# SPDX-License-Identifier: GPL-2.0-only
"""Measures whole runs: a change of the kernel's source until its verdict, and the default suite."""

import os
import resource
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

from harness.bugs.auto import of_file, patch_of
from harness.commands.bench_figures import Figure
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.errors import HarnessError, UsageError
from harness.kernel.source.difference import patch_text
from harness.progress import Emit, phase
from harness.report.record import write_report
from harness.run.options import Options
from harness.run.setup import Setup
from harness.verdict import KERNEL_AT_FAULT, PhaseRecord, RunRecord

CHANGED_FILE = "drivers/vfio/pci/vfio_pci_core.c"
CASES = "doorbell"
"""The cases that judge the change, as for -k."""
BUGGY = "vfio_pci_ioctl_reset"
"""The function that gets a bug: it no longer revokes."""
BUG = "vfio_pci_dma_buf_move(vdev, true); -> { }"
"""The mutant that does so (harness/bugs/rules.py)."""
_CALLS = 10
"""The number of calls in the table of the suite."""


def measure_change(setup: Setup, options: Options, emit: Emit) -> list[Figure]:
    """Change a line of vfio-pci twice, each time until the verdict of ``CASES``. Returns the steps of the second time,
    and how long a bug in one line takes until its first bad verdict, if every case may run.

    The change is a series, so the user's tree stays as it is. Raises UsageError for a kernel without source or with
    another series, and what ends a run.
    """
    if options.series:
        raise UsageError("the bench of a change applies a series of its own: leave out SERIES= or this part")
    if setup.kernel.source_dir is None:
        raise UsageError(f"the bench of a change needs the kernel's source, and {setup.kernel.origin} has none")
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as top:
        for name in ("first change", "next change"):
            series = Path(top, f"{name.replace(' ', '-')}.patch")
            write_report(series, _patch(setup.kernel.source_dir))
            ended, _ = _run(Task(name, replace(options, series=str(series), expression=CASES), Path(top, name)), emit)
        buggy = Path(top, "bug.patch")
        write_report(buggy, _bug(setup.kernel.source_dir))
        stopping = replace(options, series=str(buggy), fail_fast=True)
        caught = [_run(Task("a bug in one line", stopping, Path(top, "bug")), emit)[0]] if buggy.stat().st_size else []
    return [*_change_figures(ended), *map(_bug_figure, caught)]


def measure_suite(options: Options, emit: Emit) -> list[Figure]:
    """Run the default suite. Raises what ends the run."""
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as top:
        ended, used = _run(Task("suite", options, Path(top)), emit)
    return _suite_figures(ended, used, len(os.sched_getaffinity(0)))


def _patch(source: Path) -> str:
    """Return a patch that changes the object file, and no behaviour. No cache has seen it."""
    before = (source / CHANGED_FILE).read_bytes()
    line = f"static const long __used vfio_harness_bench = {time.time_ns()};\n"
    diff = patch_text(CHANGED_FILE, before, before + line.encode())
    return f"Subject: [PATCH] vfio/pci: Add a constant\n\n{diff}"


def _bug(source: Path) -> str:
    """Return a patch that puts a bug into one line; empty if this kernel has no such line."""
    text = (source / CHANGED_FILE).read_bytes()
    mutants = of_file(CHANGED_FILE, text, [BUGGY])
    return next((patch_of([each], {CHANGED_FILE: text}) for each in mutants if each.description == BUG), "")


def _bug_figure(ended: Ended) -> Figure:
    """Return how long the run took until it stopped. Raises HarnessError if no case noticed the bug."""
    bad = [case for case in ended.require().cases if case.verdict in KERNEL_AT_FAULT]
    if not bad:
        raise HarnessError(f"no case noticed that {BUGGY}() no longer revokes")
    what = f"a bug in one line until its first bad verdict ({bad[0].id}), every case selected"
    return Figure(part="change", what=what, seconds=ended.seconds)


def _run(task: Task, emit: Emit) -> tuple[Ended, float]:
    """Run a task with the default number of machines. Returns its end, and the processor's seconds that it used."""
    found: list[Ended] = []
    before = _used()
    task = replace(task, options=replace(task.options, jobs=None))
    with phase(emit, "bench", task.name) as step:
        run_all([task], 1, lambda _, end: found.append(end), shown_in(step))
    if found[0].code == HarnessError.exit_code:
        found[0].require()
        raise HarnessError(f"the bench's run of {task.name} had an ERROR, so its times say nothing")
    return found[0], _used() - before


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _change_figures(ended: Ended) -> list[Figure]:
    """Return the steps on the way to the verdict: the build, the first machine's boot, and what follows it."""
    record = ended.require()
    kernel = next(done for done in record.phases if done.phase == "kernel")
    boot = next(done for done in record.phases if done.phase == "boot")
    after = f"{len(record.cases)} cases on the machines, self-checks, start of the program, report"
    return [
        Figure(part="change", what="until the verdict", seconds=ended.seconds),
        *_steps(kernel),
        *_steps(boot),
        Figure(part="change", what=after, seconds=ended.seconds - kernel.seconds - boot.seconds),
    ]


def _steps(done: PhaseRecord) -> list[Figure]:
    """Return how long each step of a phase took, and what came after the last."""
    ends = [0.0, *done.steps.values(), done.seconds]
    names = [*done.steps, "the rest"]
    took = [end - start for start, end in pairwise(ends)]
    return [
        Figure(part="change", what=f"{done.phase}: {name}", seconds=round(seconds, 3))
        for name, seconds in zip(names, took, strict=True)
    ]


def _suite_figures(ended: Ended, used: float, processors: int) -> list[Figure]:
    record = ended.require()
    boots = [done.seconds for done in record.phases if done.phase == "boot"]
    cases = sum(case.duration_s for case in record.cases)
    rows = [
        Figure(part="suite", what="until the verdicts", seconds=ended.seconds),
        Figure(part="suite", what="used of the processors", seconds=used, share=used / ended.seconds / processors),
        Figure(part="suite", what=f"{len(boots)} boots, one after the other", seconds=sum(boots)),
        Figure(part="suite", what=f"{len(record.cases)} cases, one after the other", seconds=cases),
    ]
    calls = _longest_calls(record)
    return rows + [Figure(part="suite", what=f"  {name}", seconds=took, share=took / cases) for name, took in calls]


def _longest_calls(record: RunRecord) -> list[tuple[str, float]]:
    """Return the agent's calls that took the most seconds in all, with the host's work that led to them."""
    seconds: dict[str, float] = defaultdict(float)
    for case in record.cases:
        last = 0.0
        for item in case.evidence:
            if item.source == "guest":
                seconds[item.text.partition("(")[0]] += item.t - last
                last = item.t
    return sorted(seconds.items(), key=itemgetter(1), reverse=True)[:_CALLS]

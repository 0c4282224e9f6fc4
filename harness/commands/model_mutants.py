# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness mutants --model``: do random programs find the bugs of an export's life?

Each mutant is a run of the suite ``model``, which searches for at most five minutes (tests/vm/test_model.py: its parts,
and the seconds of each). The seed does not know the bug. The target, half of the bugs, is in
harness/report/model_mutants.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import __version__, kernel, paths
from harness.bugs import Bug
from harness.cases.collect import Collected, collect
from harness.cases.suites import MODEL_SUITE
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.config import DEFAULT_MACHINE, includes
from harness.errors import UsageError
from harness.progress import Emit, Note, phase
from harness.report import RunDirectory
from harness.report.model_mutants import ModelMutantRecord, ModelMutantsRecord, write
from harness.run.kernel_record import brief_record
from harness.run.options import Options

CONTROL = "control"
SECTION = "lifecycle."
"""The rows of the contract that the reference model is made of."""


def of_lifecycle(entries: Iterable[Bug], cases: Sequence[Collected]) -> list[Bug]:
    """Return the bugs that a case of a lifecycle row shows on the default machine, and that have a mutation."""
    return [
        entry
        for entry in entries
        if entry.mutation
        and Path(entry.machine).stem == DEFAULT_MACHINE
        and any(row.startswith(SECTION) for case in cases if entry.expects.concerns(case.id) for row in case.rows)
    ]


def run_model_mutants(
    entries: Sequence[Bug], options: Options, jobs: int, emit: Emit, *, control: bool
) -> tuple[ModelMutantsRecord, Path]:
    """Run the suite on a kernel with each bug, and on one without if ``control`` says so. Return record and directory.

    Raises UsageError if none of the bugs is of the lifecycle or for this kernel, and what ``kernel.obtain`` raises.
    """
    base = kernel.obtain(kernel.KernelSpec(options.kernel, "release"), emit)
    chosen = [
        entry
        for entry in of_lifecycle(entries, collect())
        if entry.mutation and includes(entry.mutation.kernels, base.release)
    ]
    if not chosen:
        raise UsageError(f"no bug of the lifecycle among these is for {base.release}", hint="vfio-harness bugs list")
    directory = RunDirectory(paths.results_dir())
    options = replace(options, suite=MODEL_SUITE, fail_fast=True)
    ended: dict[str, ModelMutantRecord] = {}

    def tasks() -> Iterator[Task]:
        if control:
            yield Task(CONTROL, options, directory.path / CONTROL)
        for entry in chosen:
            yield Task(entry.id, replace(options, mutation=entry.id), directory.path / entry.id)

    def end(task: Task, end: Ended) -> None:
        cases = end.record.cases if end.record else []
        ended[task.name] = ModelMutantRecord.of(task.name, cases, str(end.error or ""))
        emit(Note(str(ended[task.name])))

    with phase(emit, "mutants", f"{len(chosen)} on {base.release}, suite {MODEL_SUITE}") as step:
        try:
            run_all(tasks(), jobs, end, shown_in(step))
        finally:
            record = ModelMutantsRecord(
                run_id=directory.run_id,
                started=directory.started,
                harness=__version__,
                kernel=brief_record(base),
                seed=options.seed or 0,
                control=ended.pop(CONTROL, None),
                mutants=list(ended.values()),
            )
            write(record, directory)
        step.result = record.tally()
    return record, directory.path

# SPDX-License-Identifier: GPL-2.0-only
"""``run --base-vs-series``: the same cases on a kernel without and with a series, and what differs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness import kernel, paths
from harness.commands.children import Ended, Task, run_all, shown_in
from harness.config import load_machine
from harness.errors import KernelLacksFeature, UsageError
from harness.progress import Emit, Note, phase
from harness.report.compare import Comparison, compare
from harness.report.record import RunDirectory
from harness.report.text import tally
from harness.run.options import Options


def base_vs_series(options: Options, cases: Sequence[str], emit: Emit) -> tuple[Comparison, Path]:
    """Run the cases on both kernels in parallel.

    Returns what differs, and the directory with ``compare.json`` and both runs, ``base`` and ``series``.

    Raises UsageError without a series, and KernelError for a kernel that does not build or take it.
    """
    if not options.series:
        raise UsageError("--base-vs-series compares a kernel with and without --series: name one")
    options = replace(options, base_vs_series=False, jobs=None, error_file=None, run_directory=None)
    base = replace(options, series=None)
    arch = load_machine(options.machine).arch
    options.change(emit)  # raises its errors before the builds
    with suppress(KernelLacksFeature):  # its run then skips every case; the other kernel is built from its objects
        kernel.obtain(kernel.KernelSpec(base.kernel, base.flavour, base.change(emit), arch=arch), emit)
    held = RunDirectory(paths.results_dir())  # `prune` leaves the directory alone while this exists
    directory = held.path
    ended: dict[str, Ended] = {}

    def on_end(task: Task, end: Ended) -> None:
        ended[task.name] = end
        emit(Note(f"{task.name:8} {tally(end.require().summary)} in {end.seconds:.1f} s"))

    with phase(emit, "base and series", directory.name) as step:
        run_all(
            [
                Task("base", base, directory / "base", cases),
                Task("series", options, directory / "series", cases),
            ],
            jobs=2,
            on_end=on_end,
            on_tick=shown_in(step),
        )
    found = compare(ended["base"].require(), ended["series"].require())
    found.write(directory)
    return found, directory

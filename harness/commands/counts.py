# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness counts``: the cost of exports, maps and revokes in instructions, and how it grows."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from harness import paths, vm
from harness.config import DEFAULT_ARCH
from harness.errors import HarnessError, UsageError
from harness.progress import Emit, phase
from harness.report import RunDirectory, Terminal
from harness.reproducer import counts as program
from harness.reproducer.boot import boot
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.run.setup import Setup
from harness.verdict import Verdict

MACHINE = "intel-iommu-pt"
"""Its DMA API maps many ranges, which released kernels cannot through a translating IOMMU (ranges-at-one-iova)."""


@click.command()
@takes_options("counts")
def counts(**values: Any) -> None:
    """Count the instructions of exports, maps and revokes.

    For 1, 10, 100 and 1000 ranges, importers and buffers. A slope of 1 is linear. The counts do not depend on the host.
    The exit code is 1 if a cost grows faster than n log n, and 3 if nothing could be counted.
    """
    options = Options(**{"machine": MACHINE, **given(values)})
    with Terminal({}) as terminal:
        found = count(options, terminal.emit)
    click.echo(program.table(found))
    sys.exit(int(any(cost.steep for cost in found)))


def count(options: Options, emit: Emit) -> list[program.Cost]:
    """Boot the machine of ``options`` with the program alone, and return its counts.

    Raises HarnessError if the program does not end well, and the errors of a build and of a boot.
    """
    setup = Setup.prepare(options, emit)
    # A second processor's instructions would count, too.
    alone = setup.machine.model_copy(update={"vcpus": 1})
    setup = replace(setup, accel=vm.InstructionCounter(), machine=alone)
    if setup.machine.arch != DEFAULT_ARCH:
        raise UsageError(f"{setup.machine.path}: instructions are counted on {DEFAULT_ARCH} only")
    held = RunDirectory(paths.results_dir())
    with phase(emit, "counts", setup.kernel.release) as step, tempfile.TemporaryDirectory() as directory:
        source = Path(directory, f"{program.NAME}.c")
        source.write_text(program.source())
        ended = boot(source, setup.boot_files(), setup.machine_of, setup.machine.architecture, held.path)
        step.result = held.path.name
    if ended.verdict is not Verdict.PASS:
        raise HarnessError(f"nothing was counted: {ended.verdict}: {ended.reason}; {held.path}/console.log")
    return program.costs(ended.lines)

# SPDX-License-Identifier: GPL-2.0-only
"""The options of a cell's run, and the command that runs a case of a night again."""

from dataclasses import replace
from pathlib import Path
from typing import cast

from harness.cases.suites import DEFAULT_SUITE
from harness.kernel.model import Flavour
from harness.nightly.record import KVM_TEST, Cell
from harness.report.text import command_for
from harness.run.options import Options
from harness.verdict import CaseRecord, KernelRecord


def options_of(cell: Cell) -> Options:
    """Return the options of a cell's run."""
    return Options(
        kernel=cell.kernel,
        series=cell.series,
        flavour=cast(Flavour, cell.flavour),
        machine=cell.machine,
        suite=DEFAULT_SUITE if cell.command == KVM_TEST else cell.suite,
        qemu=cell.qemu,
        focus=cell.focus,
        required=cell.command == KVM_TEST,
    )


def command(cell: Cell, name: str, case: CaseRecord | None = None, kernel: KernelRecord | None = None) -> str:
    """Return the command that runs the case ``name`` again, for a shell; values that are the default are left out.

    A branch is named by the commit that was tested. A program is named without its directory, which is the host's own.
    """
    options = replace(options_of(cell), kernel=_kernel(cell, kernel), seed=case.seed if case else None)
    program = Path(case.program.file).name if case and case.program else None
    return command_for(name, options.again_settings(), program, cell.command)


def _kernel(cell: Cell, record: KernelRecord | None) -> str | None:
    """Return the value of KERNEL=, with the commit in place of a ref, which moves."""
    where, at, ref = (cell.kernel or "").rpartition("@")
    return f"{where}@{record.git.commit}" if at and record and record.git and record.git.ref == ref else cell.kernel

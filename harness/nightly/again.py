# SPDX-License-Identifier: GPL-2.0-only
"""The command that runs a case of a night again."""

import shlex
from pathlib import Path

from harness.nightly.record import Cell
from harness.run.options import Options
from harness.verdict import CaseRecord, KernelRecord


def command(cell: Cell, name: str, case: CaseRecord | None = None, kernel: KernelRecord | None = None) -> str:
    """Return the command that runs the case ``name`` again, for a shell; values that are the default are left out.

    A branch is named by the commit that was tested. A program is named without its directory, which is the host's own.
    """
    words = {
        "KERNEL": _kernel(cell, kernel),
        "SERIES": cell.series,
        "FLAVOUR": cell.flavour if cell.flavour != Options.flavour else None,
        "MACHINE": cell.machine if cell.machine != Options.machine else None,
        "SUITE": cell.suite if cell.suite != Options.suite else None,
        "QEMU": cell.qemu,
        "SEED": str(case.seed) if case and case.seed is not None else None,
        "PROGRAM": Path(case.program.file).name if case and case.program else None,
        "K": name.rpartition("::")[2],
    }
    return " ".join(["make vm-test", *(f"{key}={shlex.quote(value)}" for key, value in words.items() if value)])


def _kernel(cell: Cell, record: KernelRecord | None) -> str | None:
    """Return the value of KERNEL=, with the commit in place of a ref, which moves."""
    where, at, ref = (cell.kernel or "").rpartition("@")
    return f"{where}@{record.git.commit}" if at and record and record.git and record.git.ref == ref else cell.kernel

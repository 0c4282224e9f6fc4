# SPDX-License-Identifier: GPL-2.0-only
"""The command that runs a case of a night again."""

import shlex
from pathlib import Path

from harness.nightly.record import Cell
from harness.run.options import Options
from harness.verdict import CaseRecord


def command(cell: Cell, name: str, case: CaseRecord | None) -> str:
    """Return the command that runs the case ``name`` again, for a shell; values that are the default are left out.

    A program is named without its directory, which is the host's own.
    """
    words = {
        "KERNEL": cell.kernel,
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

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness coverage``: the contract's rows and their cases, or the kernel code that cases reach."""

import sys
from pathlib import Path

import click

from harness.cases import contract
from harness.commands.kernel_coverage import report_kernel_coverage
from harness.errors import UsageError
from harness.paths import results_dir


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print every row as JSON, with the ids of its cases.")
@click.option("--kernel", "of_kernel", is_flag=True, help="Show the kernel's export path instead of the contract.")
@click.argument("runs", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def coverage(as_json: bool, of_kernel: bool, runs: tuple[Path, ...]) -> None:
    """List the contract's rows with what covers them.

    With --kernel: the lines and branches of the kernel's export path that the cases of RUNS reach, merged. RUNS are
    directories of results/ of runs with --flavour coverage; the default is results/latest.

    The exit code is 1 if a row has neither a case nor a reason. With --kernel: if a line or a branch has neither.
    """
    if of_kernel:
        latest = results_dir() / "latest"
        if not runs and not latest.exists():
            raise UsageError(f"{latest}: there is no run", hint="vfio-harness run --flavour coverage makes one")
        sys.exit(report_kernel_coverage(runs or (latest,), as_json=as_json))
    if runs:
        raise click.UsageError("RUNS go with --kernel")
    rows = contract.coverage()
    click.echo(contract.as_json(rows) if as_json else contract.as_text(rows))
    sys.exit(any(row.missing for row in rows.values()))

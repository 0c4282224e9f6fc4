# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness nightly``: runs the cells of a plan, and records the night."""

from pathlib import Path

import click

from harness.cases.collect import collect
from harness.commands.nightly_cells import CaseList, as_matrix, as_text, chosen_cells, longest_first
from harness.errors import UsageError
from harness.nightly.nights import expected_seconds, nights_dir
from harness.nightly.plan import DEFAULT_PLAN, expand, load_plan, seconds_of


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration such as ``90m``, ``6h`` or ``1h30m``."""
    try:
        return seconds_of(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=DEFAULT_PLAN)
@click.option("--show", is_flag=True, help="List the cells with the time that they took before, and run nothing.")
@click.option("--matrix", type=click.Choice(["json"]), help="Print the cells as a matrix of GitHub Actions.")
@click.option("--cell", "cells", multiple=True, metavar="ID", help="Only this cell; may be given more than once.")
def nightly(plan: Path, show: bool, matrix: str | None, cells: tuple[str, ...]) -> None:
    """Run the cells of PLAN: each is a kernel on a machine.

    PLAN is a YAML file, by default vm-configs/nightly.yaml.
    """
    read = load_plan(plan)
    cases = CaseList(collect())
    chosen = chosen_cells(longest_first(expand(read, plan, cases.of, expected_seconds(nights_dir()))), cells)
    if matrix:
        click.echo(as_matrix(chosen))
    elif show:
        click.echo(as_text(chosen, read.budget_s))
    else:
        raise UsageError("only --show and --matrix so far", hint="add one of them")

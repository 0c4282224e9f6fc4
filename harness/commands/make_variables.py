# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness make-variables``: what ``make help`` lists besides its targets."""

import click

from harness.run.option_row import Option
from harness.run.options import table


@click.command(name="make-variables", hidden=True)
def make_variables() -> None:
    """List the make variables, one for each option that has one."""
    rows = [row for row in table() if row.make]
    width = max(len(_assignment(row)) for row in rows)
    for row in rows:
        click.echo(f"{_assignment(row):{width}}  {row.help.partition('  [')[0]}")


def _assignment(row: Option) -> str:
    """Write a variable with what it takes: ``KERNEL=text``, ``JOBS=N``."""
    value = "|".join(row.choices) or row.metavar or {int: "number", str: "text", bool: "1"}.get(row.kind, "path")
    return f"{row.make}={value}"

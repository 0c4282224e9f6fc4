# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness coverage``: the contract's rows and their cases."""

import sys

import click

from harness.cases import contract


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print every row with its cases as JSON.")
def coverage(as_json: bool) -> None:
    """List the contract's rows with the cases that cover them.

    The exit code is 1 if a row has neither a case nor a reason.
    """
    rows = contract.coverage()
    click.echo(contract.as_json(rows) if as_json else contract.as_text(rows))
    sys.exit(any(row.missing for row in rows.values()))

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness known``: the known issues."""

import click

from harness.run import known_issues


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole entries as JSON.")
def known(as_json: bool) -> None:
    """List the known issues: bugs that are live in released kernels, with the cases that show them."""
    issues = known_issues.catalogue()
    click.echo(known_issues.as_json(issues) if as_json else known_issues.as_text(issues))

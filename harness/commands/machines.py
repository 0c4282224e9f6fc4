# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness machines``: the machines of vm-configs/."""

import click

from harness.config import machines_as_json, machines_as_text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the machines as JSON.")
def machines(as_json: bool) -> None:
    """List the machines, with what each is for and what it lacks."""
    click.echo(machines_as_json() if as_json else machines_as_text())

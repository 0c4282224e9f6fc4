# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness summary``: what is not PASS in a run, for the page of a CI job."""

from pathlib import Path

import click

from harness.report import load, markdown


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def summary(run: Path) -> None:
    """Print what is not PASS in a run, as Markdown.

    RUN is a directory of results/, or a report.json file.
    """
    click.echo(markdown.render(load(run)), nl=False)

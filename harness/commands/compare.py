# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness compare``: what differs between two runs."""

import sys
from pathlib import Path

import click

from harness.report import load
from harness.report.compare import compare as compare_runs


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Show what differs between two runs.

    BEFORE and AFTER are directories of results/, or report.json files. The exit code is 1 if a case is broken, 3 if a
    case could not be judged, else 0.
    """
    found = compare_runs(load(before), load(after))
    click.echo(found)
    sys.exit(found.exit_code)

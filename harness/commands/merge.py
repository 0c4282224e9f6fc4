# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness merge``: one report of several runs."""

import sys
from pathlib import Path

import click

from harness import paths
from harness.errors import UsageError
from harness.report import RunDirectory, load
from harness.report.merge import merge as merge_runs
from harness.report.record import REPORT
from harness.report.text import tally
from harness.verdict import exit_code


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="DIR...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the report into this directory.  [default: a new one in results/]",
)
def merge(runs: tuple[Path, ...], into: Path | None) -> None:
    """Join runs of the same kernel and machine in one report.

    Each DIR is the directory of a run, or of results, whose latest run counts. `vfio-harness run --shard I/N` makes
    such runs. A case that a shard should have judged, and did not, is ERROR, and its reason says MISS.

    The exit code is that of a run: 0 if the contract held, 1 if the kernel is at fault, 2 for wrong usage, and 3 if a
    case is ERROR.
    """
    records = [(found.resolve(), load(found)) for found in map(_directory_of_run, runs)]
    directory = RunDirectory(paths.results_dir(), into)
    record = merge_runs(records, directory.path.resolve(), directory.run_id)
    shard = records[0][1].shard
    machine = "--machine" if paths.INSTALLED else "MACHINE"
    directory.write(record, shard.settings if shard else {machine: record.machine})
    click.echo(f"{tally(record.summary)}; {directory.path / 'report.html'}")
    sys.exit(exit_code([case.verdict for case in record.cases]))


def _directory_of_run(path: Path) -> Path:
    """Return the directory of the run that ``path`` names: itself, its latest run, or that of its report.json."""
    if not path.is_dir():
        if path.name != REPORT:
            raise UsageError(f"{path}: neither a directory nor a {REPORT}", hint="name the directory of a run")
        return path.parent
    return path / "latest" if (path / "latest").exists() else path

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness flakes``: cases with different verdicts on the same kernel."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from harness.commands.history import nightly_directory
from harness.nightly.history import NIGHTS, Flake, open_history
from harness.report import Terminal
from harness.report.text import one_line


@click.command()
@click.option("--nights", default=NIGHTS, show_default=True, type=click.IntRange(1), help="How many nights to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def flakes(nights: int, as_json: bool) -> None:
    """List the cases with different verdicts on the same kernel.

    Each cell counts for itself. All runs of the latest nights count, also those that measure the rate. KNOWN
    counts as a failure. ERROR and SKIP are listed, but the rate does not count them.
    """
    with Terminal({}, to_stderr=True) as terminal, open_history(nightly_directory(), terminal.emit) as history:
        found = history.flakes(nights=nights)
    click.echo(as_json_text(found) if as_json else "\n".join(_lines(found)))


def as_json_text(flakes: Sequence[Flake]) -> str:
    """Format the rows as JSON."""
    return json.dumps([{**asdict(flake), "rate": flake.rate} for flake in flakes], indent=2)


def _lines(flakes: Sequence[Flake]) -> Iterator[str]:
    for flake in flakes:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in flake.verdicts.items())
        yield f"{flake.rate} failed: {flake.case}"
        yield f"    {flake.cell}, {one_line(str(flake.kernel))}: {counts}"
    yield f"{len(flakes)} flaky" if flakes else "no case had different verdicts on the same kernel"

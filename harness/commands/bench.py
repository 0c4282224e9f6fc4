# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bench``: where the time goes, in a boot, from a change of the kernel to its verdict, in the suite."""

import os
from pathlib import Path
from typing import Any, get_args

import click

from harness import paths
from harness.commands.bench_boot import measure_boot
from harness.commands.bench_figures import Bench, Figure, Part, load
from harness.commands.bench_runs import measure_change, measure_suite
from harness.report import Terminal
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.run.setup import Setup

PARTS: tuple[Part, ...] = get_args(Part)


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Measure only this; repeatable.")
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A bench.json of before; + and - mark the figures that are over 10 % longer and shorter.",
)
@takes_options("bench", from_make=True)
def bench(parts: tuple[Part, ...], against: Path | None, **values: Any) -> None:
    """Measure where the time goes.

    boot: until the agent's first reply, next to the shortest boot of the same kernel. change: from a changed line of
    vfio-pci to the verdict of its cases, and from a bug in one line to its first bad verdict. suite: the default
    suite. Writes results/bench.json.
    """
    options = Options(**given(values))
    baseline = load(against) if against else None
    load_average = os.getloadavg()[0]
    with Terminal(options.again_settings()) as terminal:
        setup = Setup.prepare(options, terminal.emit)
        figures: list[Figure] = []
        for part in [part for part in PARTS if part in (parts or PARTS)]:
            match part:
                case "boot":
                    figures += measure_boot(setup, terminal.emit)
                case "change":
                    figures += measure_change(setup, options, terminal.emit)
                case "suite":
                    figures += measure_suite(options, terminal.emit)
    found = Bench(kernel=setup.kernel.release, accel=setup.accel.name, load=load_average, figures=figures)
    found.write(paths.results_dir() / "bench.json")
    click.echo(found.table(baseline))

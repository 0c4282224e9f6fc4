# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness nightly``: runs the cells of a plan, and records the night."""

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from harness.cases.collect import collect
from harness.commands.children import Children
from harness.commands.nightly_cells import CaseList, as_matrix, as_text, chosen_cells, earlier_runs, in_order
from harness.commands.nightly_dask import DaskRunner
from harness.commands.nightly_engine import Runner
from harness.commands.nightly_local import LocalRunner
from harness.commands.nightly_run import Limits, begun, continued, new_night, pin, run_night
from harness.nightly.nights import nights_dir
from harness.nightly.plan import DEFAULT_PLAN, expand, load_plan, seconds_of
from harness.nightly.running import RunningNight
from harness.report import Terminal
from harness.run.read_options import takes_options


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read a duration such as ``90m``, ``6h`` or ``1h30m``."""
    try:
        return seconds_of(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=DEFAULT_PLAN)
@takes_options("nightly", from_make=True)
@click.option("--resume", is_flag=True, help="Continue the newest night. Its record replaces PLAN.")
@click.option(
    "--deadline",
    callback=_seconds,
    metavar="DURATION",
    help="End the night after so long, e.g. 6h or 90m.  [default: the plan's budget]",
)
@click.option("--cell", "cells", multiple=True, metavar="ID", help="Run only this cell; may be given more than once.")
@click.option(
    "--keep-going/--stop",
    default=True,
    show_default=True,
    help="Go on after a cell in which the kernel is at fault, or stop there.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Run the cells on the workers of this Dask scheduler.")
@click.option("--show", is_flag=True, help="List the cells with the time that they took before, and run nothing.")
@click.option("--matrix", type=click.Choice(["json"]), help="Print the cells as a matrix of GitHub Actions.")
def nightly(
    plan: Path,
    *,
    resume: bool,
    deadline: float | None,
    cells: tuple[str, ...],
    keep_going: bool,
    scheduler: str | None,
    show: bool,
    matrix: str | None,
) -> None:
    """Run the cells of PLAN: each is a kernel on a machine.

    PLAN is a YAML file, by default vm-configs/nightly.yaml. The night is recorded in results/nightly/, and
    results/nightly/latest points to it. Its record names every cell before the first one runs: what has not run is
    MISS. A case that is ERROR runs once again. One that is bad and was good in the last night is repeated ten times,
    which gives its rate, and no other verdict.

    After the deadline nothing starts, and what runs is ended. Cells that had no time run first in the next night. A
    night that was interrupted or killed continues with --resume: cells that were finished do not run again.

    With --scheduler, each cell runs on a worker of Dask. A worker states its memory in MiB, and with kvm how many runs
    may use KVM at a time: dask worker ADDRESS --nthreads 4 --resources 'memory=8000 kvm=2'. A lost worker is a lost
    run, and the cell runs again elsewhere, at most twice. Trees and series that are files must be on each worker at the
    same path.

    The exit code is 0 if the contract held in all cells, 1 if a kernel is at fault in something that is not known, 2
    for wrong usage, and 3 if only ERROR or MISS is left.
    """
    if resume and (show or matrix):
        raise click.UsageError("--resume runs a night: leave it out to list the cells of a plan")
    cases = CaseList(collect())
    if resume:
        with continued(nights_dir()) as running:
            chosen_cells(running.night.cells, cells)
            sys.exit(_run(running, cases, Limits(deadline, cells, keep_going), scheduler))
    read = load_plan(plan)
    with Terminal({}, to_stderr=True) as terminal:
        earlier = earlier_runs(nights_dir(), terminal.emit)
    expanded = expand(read, plan, cases.of, earlier.expected_s)
    chosen = chosen_cells(in_order(expanded, earlier.last_night), cells)
    if matrix:
        click.echo(as_matrix(chosen))
    elif show:
        click.echo(as_text(chosen, deadline or read.budget_s, earlier.last_night))
    else:
        if scheduler:  # one that cannot be used must not leave a night of MISS
            with DaskRunner(scheduler, cases):
                pass
        with Terminal({}) as terminal:
            chosen = pin(chosen, terminal.emit)
        with begun(nights_dir(), new_night(plan, chosen, deadline or read.budget_s, cells)) as running:
            sys.exit(_run(running, cases, Limits(keep_going=keep_going), scheduler))


def _run(running: RunningNight, cases: CaseList, limits: Limits, scheduler: str | None) -> int:
    with Terminal({}) as terminal, ExitStack() as stack:
        runner: Runner
        if scheduler:
            runner = stack.enter_context(DaskRunner(scheduler, cases))
        else:
            runner = LocalRunner(stack.enter_context(Children()), cases)
        code = run_night(running, runner, limits, terminal.emit)
    click.echo(running.directory)
    return code

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness mutants``: the test of the suite itself, by bugs of the catalogue, by rule, or by random programs."""

import sys
from pathlib import Path
from typing import Any

import click

from harness.bugs import load_bug, load_bugs
from harness.commands.auto_mutants import Selection, run_auto_mutants
from harness.commands.catalogue_mutants import run_mutants, survivors_on
from harness.commands.model_mutants import run_model_mutants
from harness.report import Terminal
from harness.report.auto_mutants import read as read_auto_mutants
from harness.run.options import Options
from harness.run.read_options import given, takes_options


@click.command()
@click.option("--only", multiple=True, metavar="ID", help="Test only this bug; may be given more than once.")
@click.option(
    "--elsewhere",
    metavar="MACHINE",
    help="Test the bugs whose entries say that they survive on this machine, there: each must survive.",
)
@click.option("--auto", is_flag=True, help="Test small faults that rules find in the export path, not the catalogue.")
@click.option("--model", is_flag=True, help="Let the random programs of the suite model find the lifecycle bugs.")
@click.option("--functions", multiple=True, metavar="NAME", help="With --auto: only in this function; repeatable.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="With --auto: draw N mutants.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of --auto's drawing, and of --model.")
@click.option(
    "--coverage",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="With --auto: a run with --flavour coverage; its cases that reach a mutant's line run first.",
)
@click.option(
    "--survivors-of",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RUN",
    help="With --auto: not a drawing, but the mutants that an earlier run did not catch.",
)
@takes_options("mutants", from_make=True)
def mutants(
    only: tuple[str, ...],
    elsewhere: str | None,
    jobs: int,
    auto: bool,
    model: bool,
    **values: Any,
) -> None:
    """Check that the suite catches each bug of the catalogue.

    Puts back one bug at a time. The exit code is 0 if every bug is caught with the verdict of its entry and a clean
    kernel passes. It is 1 if a bug survives or shows otherwise, or if the clean kernel does not pass; 2 for wrong
    usage; 3 if the harness, the host or a mutation failed. A bug is CHANGED if no case blames the kernel, but one has
    another verdict than on the clean kernel, e.g. FIXED where KNOWN was.

    With --elsewhere, a bug is missed if no case notices it, as its entry says. The exit code is 1 if one is noticed.

    With --auto, mutants are made by rule of the functions in vm-configs/kernel-path.yaml. The exit code is then 0 if
    each mutant was judged, else 3. The score does not change it.

    With --model, the bugs are those that a case of a lifecycle row shows. Each runs SUITE=model, which searches for at
    most five minutes. The exit code is 0 if it finds half of them and a clean kernel passes, 1 if not, and 3 if a run
    failed.
    """
    if auto + model + (elsewhere is not None) > 1:
        raise click.UsageError("--auto, --model and --elsewhere exclude each other")
    functions, count, seed = values.pop("functions"), values.pop("sample"), values.pop("seed")
    earlier = values.pop("survivors_of")
    if earlier and (functions or count or seed):
        raise click.UsageError("--survivors-of excludes --functions, --sample and --seed")
    if auto and only:
        raise click.UsageError("--auto and --only exclude each other; --functions chooses automatic mutants")
    if not auto and (functions or count or earlier or values["coverage"]):
        raise click.UsageError("--functions, --sample, --coverage and --survivors-of need --auto")
    selection = Selection(functions, count, seed, read_auto_mutants(earlier) if earlier else None)
    coverage = values.pop("coverage")
    chosen = given(values)
    if model:
        bugs = [load_bug(name) for name in dict.fromkeys(only)] or load_bugs()
        options = Options(**chosen, seed=selection.seed)
        with Terminal({}) as terminal:
            programs, where = run_model_mutants(bugs, options, jobs, terminal.emit, control=not only)
        click.echo(f"{programs.tally()}; {where / 'model-mutants.json'}")
        sys.exit(programs.exit_code)
    if auto:
        with Terminal({}) as terminal:
            record, where = run_auto_mutants(Options(**chosen), selection, coverage, jobs, terminal.emit)
        click.echo(f"{record.tally()}; {where / 'auto-mutants.html'}")
        sys.exit(record.exit_code)
    flavour = chosen.pop("flavour", None)
    entries = [load_bug(name) for name in dict.fromkeys(only)] or load_bugs()
    if elsewhere:
        entries = survivors_on(elsewhere, entries)
    entries = [entry.model_copy(update={"flavour": flavour or entry.flavour}) for entry in entries]
    with Terminal({}) as terminal:
        found, directory = run_mutants(entries, Options(**chosen), jobs, terminal.emit, whole=not only)
    click.echo(f"{found.tally()}; {directory / 'mutants.html'}")
    sys.exit(found.exit_code)

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness review``: what the cases know of each line that a series changes."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from harness import __version__, paths
from harness.commands.review_lines import LineCounters, judged_lines
from harness.commands.review_mutants import ReviewMutants
from harness.commands.review_runs import WORKSPACE, CoverageRuns, counted_kernel, obtain
from harness.commands.review_source import Reviewed, reviewed
from harness.escape import printable
from harness.gcov.reasons import load_reasons
from harness.kernel.cache import cache_path, locked
from harness.progress import Emit, phase
from harness.report import RunDirectory, Terminal
from harness.report.outcomes import MutantOutcome
from harness.report.review import (
    PAGE,
    Counts,
    Files,
    LineMutant,
    LineState,
    ReviewedLine,
    ReviewRecord,
    ShownHunk,
    ShownLine,
    Survivor,
    shown,
    to_json,
    write,
)
from harness.run.kernel_record import brief_record
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.verdict import KERNEL_AT_FAULT, KernelRecord

_NOTE_WIDTH = 12
"""Columns of the notes to the left of the diff."""
_COLOURS = {"good": "green", "warn": "yellow", "bad": "red", "info": "blue", "dim": "bright_black", "": None}


@click.command()
@click.argument("series", required=False)
@click.option("--since", metavar="REF", help="Review what the git work tree of --kernel has changed since this commit.")
@click.option("--json", "as_json", is_flag=True, help="Print review.json instead of the diff.")
@click.option("--no-mutants", is_flag=True, help="Only say which changed lines the cases reach.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    metavar="N",
    help="Run at most N mutants, spread over the changed lines.",
)
@takes_options("review", from_make=True)
def review(
    series: str | None, since: str | None, *, as_json: bool, no_mutants: bool, sample: int, jobs: int, **values: Any
) -> None:
    """Say what the cases know of each line that a series changes.

    SERIES is an mbox, a directory, a patch, or a message-id for b4, as for `run --series`. Runs the suite on the
    changed kernel with gcov, and where a line is not reached, other machines that may reach it and failing allocations.
    Then puts small faults into the changed lines, one at a time, and runs the cases that reach them. Prints the diff:
    what no case reaches or notices is "not tested". Writes review.json and review.html. Nothing is sent.

    The exit code is 0 if each line and each mutant was judged, 1 if the series does not apply or build, 2 for wrong
    usage, and 3 if the harness or the host failed. What a review finds does not change it.
    """
    options = Options(**{**given(values), **({"series": series} if series else {})})
    with Terminal(options.make_variables(), to_stderr=True) as terminal:
        most = 0 if no_mutants else sample
        record, files, directory = run_review(options, since, jobs, terminal.emit, most=most)
    if as_json:
        click.echo(to_json(record), nl=False)
    else:
        for line in text(record, files):
            click.echo(line)
        click.echo(directory / PAGE)
    sys.exit(record.exit_code)


def run_review(
    options: Options, since: str | None, jobs: int, emit: Emit, *, most: int
) -> tuple[ReviewRecord, Files, Path]:
    """Review a change; return the record, the diff as it is shown, and the directory. ``most``: of the mutants.

    If it is interrupted after the first run, the record has what is known by then, and the other mutants as ERROR.

    Raises what ``reviewed`` and a kernel's build raise, and HarnessError if a run ends without a record.
    """
    found = reviewed(options, since, emit)
    began = time.monotonic()
    with phase(emit, "review", "workspace") as step:
        held = ExitStack()
        held.enter_context(locked(cache_path("changed", WORKSPACE), step))
    with held:
        built = counted_kernel(options, found, emit)
        directory = RunDirectory(paths.results_dir())
        counters = LineCounters(found)
        runs = CoverageRuns(options, built, counters, directory.path, emit)
        reasons = load_reasons(built.release)
        work = ReviewMutants(counters, directory.path, jobs, emit)
        try:
            if any(found.changed.values()):
                runs.run()
                if not options.expression:
                    runs.run_elsewhere(reasons)
                if most and work.draw(built.build_dir, most):
                    work.run(obtain(options, found.with_part(work.change()), emit), runs.places)
        finally:
            judged = work.judged()
            lines = [with_mutants(line, judged) for line in judged_lines(counters, reasons)]
            files = shown_files(found, lines)
            record = record_of(
                lines,
                judged,
                found,
                runs,
                candidates=work.candidates,
                directory=directory,
                kernel=brief_record(built),
                seconds=round(time.monotonic() - began, 1),
            )
            if runs.places or not any(found.changed.values()):
                write(record, files, directory)
    return record, files, directory.path


def record_of(
    lines: list[ReviewedLine],
    judged: list[LineMutant],
    found: Reviewed,
    runs: CoverageRuns,
    *,
    candidates: int,
    directory: RunDirectory,
    kernel: KernelRecord,
    seconds: float,
) -> ReviewRecord:
    """Put the record together."""
    counts = Counts.of(lines, judged)
    survived = [mutant for mutant in judged if mutant.outcome is MutantOutcome.SURVIVED]
    places = [(str(place), place.record) for place in runs.places]
    return ReviewRecord(
        changed=counts.changed,
        reached=counts.reached,
        mutants=counts.mutants,
        caught=counts.caught,
        survived=[Survivor(file=each.file, line=each.line, what=each.what) for each in survived],
        unreached=[line for line in lines if line.state in (LineState.NOT_REACHED, LineState.UNREACHABLE)],
        unreachable=counts.unreachable,
        no_code=counts.no_code,
        candidates=candidates,
        equivalent=sum(mutant.outcome is MutantOutcome.EQUIVALENT for mutant in judged),
        masked=counts.masked,
        cover_letter=counts.cover_letter(),
        run_id=directory.run_id,
        started=directory.started,
        duration_s=seconds,
        harness=__version__,
        kernel=kernel,
        change=list(found.patches),
        machines=[name for name, _ in places],
        verdicts=places[0][1].summary if places else {},
        bad=[
            f"{case.id} on {name}: {case.verdict}"
            for name, run in places
            for case in run.cases
            if case.verdict in KERNEL_AT_FAULT
        ],
        lines=lines,
        judged=judged,
    )


def with_mutants(line: ReviewedLine, judged: Sequence[LineMutant]) -> ReviewedLine:
    """Return a line with what came of its mutants."""
    own = [mutant for mutant in judged if (mutant.file, mutant.line) == (line.file, line.line)]
    caught = [f"{each.what} by {each.case}" for each in own if each.outcome is MutantOutcome.CAUGHT]
    survived = [each.what for each in own if each.outcome is MutantOutcome.SURVIVED]
    masked = [each.what for each in own if each.outcome is MutantOutcome.MASKED]
    return line.model_copy(update={"caught": caught, "survived": survived, "masked": masked})


def shown_files(found: Reviewed, lines: Sequence[ReviewedLine]) -> Files:
    """Return the diff with what is known of each line."""
    known = {(line.file, line.line): line for line in lines}
    return [
        (
            each.name,
            [
                ShownHunk(
                    f"@@ -{next((line.old for line in hunk if line.old), 0)}"
                    f" +{next((line.new for line in hunk if line.new), 0)} @@",
                    tuple(
                        shown(line.sign, line.text, known.get((each.name, line.new or 0)) if line.sign == "+" else None)
                        for line in hunk
                    ),
                )
                for hunk in each.hunks
            ],
        )
        for each in found.differences
    ]


def text(record: ReviewRecord, files: Files) -> Iterator[str]:
    """Yield the lines of the coloured diff, then the cases that are bad, then the line for the cover letter."""
    for name, hunks in files:
        yield click.style(printable(name), bold=True)
        for hunk in hunks:
            yield click.style(f"{'':{_NOTE_WIDTH}}{hunk.head}", fg="cyan")
            for line in hunk.lines:
                yield from _shown(line)
    for bad in record.bad:
        yield click.style(f"on the changed kernel: {printable(bad)}", fg="red")
    if record.bad:
        yield "`vfio-harness run --base-vs-series` shows which of these the base has, too"
    yield record.cover_letter


def _shown(line: ShownLine) -> Iterator[str]:
    styled = click.style(f"{line.sign}{printable(line.text)}", fg=_COLOURS[line.colour])
    yield f"{line.note:{_NOTE_WIDTH}}{styled}".rstrip()
    for remark in line.remarks:
        yield f"{'':{_NOTE_WIDTH}}" + click.style(f"  {printable(remark)}", fg="red", bold=True)

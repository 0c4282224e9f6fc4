# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness history``: the verdicts of a case in the nights."""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from harness import paths
from harness.errors import UsageError
from harness.nightly.history import NIGHTS, CaseNight, History, has_nights, open_history
from harness.report import Terminal
from harness.report.text import one_line, without_numbers
from harness.verdict import KERNEL_AT_FAULT


@click.command()
@click.argument("case")
@click.option("--nights", default=NIGHTS, show_default=True, type=click.IntRange(1), help="How many nights to show.")
@click.option("--cell", help="Show only this cell of the plan.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def history(case: str, nights: int, cell: str | None, as_json: bool) -> None:
    """Show the verdicts of a case in the latest nights.

    CASE is the id of a case or a part of it. Each night and cell has a line with kernel, verdict and failure rate.
    MISS: a night has planned it, and no run has judged it. For a case that is bad now, the last good night is named,
    and the first bad commit if the night has bisected. A reason that differs from that of the night above in numbers
    only is not repeated.
    """
    with Terminal({}, to_stderr=True) as terminal, open_history(nightly_directory(), terminal.emit) as found:
        check_cell(cell, found)
        rows = found.verdicts(cases_named(case, found.cases()), nights=nights, cell=cell)
        click.echo(as_lines_of_json(rows) if as_json else "\n".join(_lines(rows, found)))


def nightly_directory() -> Path:
    """Return ``results/nightly``. Raises UsageError if it has no night."""
    nightly = paths.results_dir() / "nightly"
    if not has_nights(nightly):
        raise UsageError(f"{nightly} has no night", hint="run vfio-harness nightly, or set VFIO_HARNESS_RESULTS")
    return nightly


def cases_named(text: str, cases: Sequence[str]) -> list[str]:
    """Return the case with this id, or all whose id contains the text. Raises UsageError if there is none."""
    found = [text] if text in cases else [case for case in cases if text in case]
    if not found:
        close = difflib.get_close_matches(text, cases, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "vfio-harness coverage --json lists the cases"
        raise UsageError(f"no night has a case {text!r}", hint=hint)
    return found


def check_cell(cell: str | None, history: History) -> None:
    """Raise UsageError if no night has the cell."""
    cells = history.cells()
    if cell is not None and cell not in cells:
        raise UsageError(f"--cell {cell}: no night has this cell", hint=f"accepted: {', '.join(cells)}")


def as_lines_of_json(rows: Sequence[CaseNight]) -> str:
    """Format the rows as JSON."""
    return json.dumps([{**asdict(row), "directory": str(row.directory)} for row in rows], indent=2)


def _lines(rows: Sequence[CaseNight], history: History) -> Iterator[str]:
    if not rows:
        yield "no verdict in these nights"
    for case in sorted({row.case for row in rows}):
        yield case
        shown = [row for row in rows if row.case == case]
        night, cell = (max(len(getattr(row, name)) for row in shown) for name in ("night", "cell"))
        kernel = max(len(str(row.kernel)) for row in shown)
        said: dict[tuple[str, str], str] = {}  # the reason of the night above, by cell and verdict
        for row in shown:
            reason = one_line(row.reason)
            compared = without_numbers(reason)
            same = bool(compared) and said.get((row.cell, row.verdict)) == compared
            said[row.cell, row.verdict] = compared
            rest = "  ".join(filter(None, [row.rate, "for the same reason" if same else reason]))
            start = f"  {row.night:<{night}}  {row.cell:<{cell}}  {one_line(str(row.kernel)):<{kernel}}"
            yield f"{start}  {row.verdict:<5}  {rest}".rstrip()
            if row.first_bad:
                yield f"  {'':{night}}  first bad commit: {one_line(row.first_bad)}"
        yield from _last_good(shown, history)


def _last_good(rows: Sequence[CaseNight], history: History) -> Iterator[str]:
    """Name the last good night of each cell whose newest verdict is bad."""
    newest: dict[str, CaseNight] = {}
    for row in rows:
        newest.setdefault(row.cell, row)
    for cell, row in newest.items():
        if row.verdict not in KERNEL_AT_FAULT:
            continue
        good = history.last_good_night(cell, row.case)
        if good is None:
            yield f"  {cell}: no night in which it passed"
        else:
            yield f"  {cell}: passed last in {good.night}, on {one_line(str(good.kernel))}"
            yield f"      vfio-harness compare {good.directory} {row.directory}"

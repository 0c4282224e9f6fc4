# SPDX-License-Identifier: GPL-2.0-only
"""Shows a run as it happens, on a terminal or in a log: phases, cases, the table of verdicts."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.errors import HarnessError
from harness.escape import printable
from harness.progress import Event, Note, PhaseDone, PhaseProgress, PhaseStarted
from harness.report.rate import as_text
from harness.report.text import changes, key_evidence, one_line, repeat_command, tally, without_numbers
from harness.verdict import BAD, GOOD, KERNEL_AT_FAULT, CaseRecord, RunRecord, Verdict

log = logging.getLogger(__name__)

LOG_WIDTH = 120
"""Columns of a log."""
LOG_PERIOD_S = 15.0
"""Interval between progress lines of one phase in a log, where lines cannot be overwritten."""

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FIXED: "bold green",
    Verdict.KNOWN: "yellow",
    Verdict.SKIP: "cyan",
    Verdict.ERROR: "bold magenta",
} | dict.fromkeys(KERNEL_AT_FAULT, "bold red")


class Terminal:
    """Shows progress events and cases. As a context manager, it removes its live lines at the end.

    ``settings``: the make variables of this run, for the commands that it prints (see ``repeat_command``).
    ``to_stderr``: write to stderr, so that stdout carries only the output of the command.
    ``every_case``: list the cases that passed, too, in the closing table. ``vfio-harness --verbose`` does so as well.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        console: Console | None = None,
        *,
        to_stderr: bool = False,
        every_case: bool = False,
    ) -> None:
        self._settings = settings
        self._every_case = every_case or log.isEnabledFor(logging.DEBUG)
        self._console = console or Console(
            stderr=to_stderr,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            force_interactive=False if log.isEnabledFor(logging.DEBUG) else None,  # log lines would break a live line
            width=None if (sys.stderr if to_stderr else sys.stdout).isatty() else LOG_WIDTH,
        )
        self._live = Progress(
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False, style="dim"),
            console=self._console,
            transient=True,
        )
        self._phases: dict[str, TaskID] = {}
        self._logged = 0.0
        self._seen: set[tuple[str, Verdict, str]] = set()

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def emit(self, event: Event) -> None:
        """Show one event: as a live line on a terminal, as lines at intervals in a log."""
        match event:
            case PhaseStarted(name, detail):
                self._begin(name, one_line(detail))
            case PhaseProgress(name, detail, fraction):
                self._advance(name, one_line(detail), fraction)
            case PhaseDone(name, seconds, detail):
                self._end(name)
                self._print(f"{one_line(name):<14} {seconds:7.1f} s", f"  {one_line(detail)}" if detail else "")
            case Note(text):
                self._print(one_line(text))

    def case_started(self, title: str, slot: int = 1) -> None:
        """Show on a terminal which case runs now. ``slot``: the number of its machine, from 1."""
        if self._console.is_interactive:
            self._begin(_case(slot), one_line(title))

    def case_done(self, case: CaseRecord, slot: int = 1) -> None:
        """Print one line for a case, and the reason unless it passed.

        A bad case also gets its last observations and the command that repeats it."""
        self._end(_case(slot))
        parameters = ", ".join(filter(None, (case.importer, case.trigger)))
        given = f" [{one_line(parameters)}]" if parameters else ""
        seed = "" if case.seed is None else f" (seed {case.seed})"
        self._console.print(
            _verdict(case, width=5),
            f"{case.duration_s:6.2f} s  {one_line(case.area)}: {one_line(case.title)}{given}{seed}",
        )
        if case.verdict is Verdict.PASS:
            return
        for line in printable(case.reason, 2000).splitlines():
            self._print(f"        {line}")
        if case.known_issue:
            self._print(f"        known issue: {one_line(case.known_issue)}")
        if case.verdict in BAD:
            for item in key_evidence(case):
                self._print("", f"        {item.t:8.3f} s  {item.source:<8}{one_line(item.text)}")
            for call in case.program.calls if case.program else ():
                self._print(f"        program: {one_line(call)}")
            self._print(f"        again: {repeat_command(case, self._settings)}")

    def repetition_done(self, case: CaseRecord, slot: int = 1) -> None:
        """Print one repetition of a case if it did not pass, once for each verdict and reason."""
        key = case.id, case.verdict, without_numbers(case.reason)
        if case.verdict in GOOD or key in self._seen:
            self._end(_case(slot))
            return
        self._seen.add(key)
        self.case_done(case, slot)

    def failure(self, error: HarnessError) -> None:
        """Print the error that ended the run early, and its fix."""
        self._stop()
        self._console.print(Text("error:", "bold red"), printable(str(error), 8000))
        if error.hint:
            self._print(f"  fix: {printable(error.hint, 2000)}")

    def finish(self, run: RunRecord, directory: Path) -> None:
        """Print what is not PASS as a table, what a change has fixed, how many passed, and the path of the report."""
        self._stop()
        listed = [case for case in run.cases if self._every_case or case.verdict is not Verdict.PASS]
        if listed:
            self._console.print(self._table(listed), soft_wrap=False)
        for line in changes(run):
            self._print(one_line(line))
        for case in run.cases:
            if case.rate:
                self._print(f"rate: {one_line(case.id)}: {as_text(case.rate)}")
        folded = "" if len(listed) == len(run.cases) else " (-v lists what passed)"
        self._print(f"{tally(run.summary)} in {run.duration_s:.1f} s; {directory / 'report.html'}", folded)

    def _table(self, cases: Iterable[CaseRecord]) -> Table:
        table = Table(box=box.ASCII2 if self._console.options.ascii_only else box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("verdict", no_wrap=True)
        table.add_column("case", overflow="fold")
        table.add_column("time", justify="right", no_wrap=True)
        for case in cases:
            table.add_row(_verdict(case), Text(one_line(case.id)), f"{case.duration_s:.2f} s")
        return table

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop drawing for the duration of a block, so that it can fork.

        The thread that draws the live lines has been stopped and holds no lock that a fork would copy."""
        live = self._live.live.is_started
        self._stop()
        try:
            yield
        finally:
            if live:
                self._live.start()

    def _stop(self) -> None:
        if self._live.live.is_started:
            self._live.stop()

    def _print(self, text: str, dim: str = "") -> None:
        self._console.print(Text(text).append(dim, "dim"))

    def _begin(self, name: str, detail: str) -> None:
        if self._console.is_interactive:
            self._end(name)
            self._phases[name] = self._live.add_task(one_line(name), total=None, detail=detail)
        else:
            self._logged = time.monotonic()
            self._print(f"{one_line(name)} ...", f" {detail}" if detail else "")

    def _advance(self, name: str, detail: str, fraction: float | None) -> None:
        share = "" if fraction is None else f"{fraction:4.0%} "
        if name in self._phases:
            total, done = (None, 0.0) if fraction is None else (1.0, fraction)
            self._live.update(self._phases[name], total=total, completed=done, detail=detail)
        elif not self._console.is_interactive and time.monotonic() - self._logged >= LOG_PERIOD_S:
            self._logged = time.monotonic()
            self._print(f"{one_line(name)} ... {share}", detail)

    def _end(self, name: str) -> None:
        task = self._phases.pop(name, None)
        if task is not None:
            self._live.remove_task(task)


def _case(slot: int) -> str:
    return "case" if slot == 1 else f"case {slot}"


def _verdict(case: CaseRecord, width: int = 0) -> Text:
    return Text(f"{case.verdict:<{width}}", _STYLES[case.verdict])

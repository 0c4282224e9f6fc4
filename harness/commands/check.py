# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness check``: test a series from standard input, and print the result as b4 or patchwork takes it.

b4 runs `b4.review-series-check-cmd` in the top of the user's tree with the cover letter on standard input, and reads a
JSON array (misc/review-ci-example.py of b4). patchwork's REST API takes one JSON object for each check.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from pathlib import Path
from typing import Any, Literal

import click

from harness.cases.collect import collect
from harness.cases.touched import ALL, concerned
from harness.commands.base_vs_series import base_vs_series
from harness.config import matches
from harness.errors import HarnessError, KernelBuildError, KernelError, UsageError
from harness.escape import printable
from harness.host.files import write_atomically
from harness.kernel import Series
from harness.kernel.cache import cache_path, digest
from harness.kernel.source.resolve import SourceTree, resolve_kernel
from harness.progress import Emit
from harness.report import Terminal
from harness.report.compare import Comparison, VerdictChange
from harness.report.text import counted, one_line
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.verdict import Verdict

TOOL = "vfio-harness"
MAX_INPUT = 64 << 20
"""Bytes of a series."""
MAX_DETAILS = 16384
"""Characters."""
MAX_DESCRIPTION = 255
"""Characters of a check's description in patchwork."""

_MESSAGE_ID = re.compile(r"<?([^\s<>/-][^\s<>/]*@[^\s<>/]+)>?")

Status = Literal["pass", "warn", "fail"]
_STATES: Mapping[Status, str] = {"pass": "success", "warn": "warning", "fail": "fail"}
"""The states of patchwork."""
_WORST: tuple[Status, ...] = ("fail", "warn", "pass")
_CHANGES: Mapping[VerdictChange, tuple[Status, str]] = {
    VerdictChange.BROKEN: ("fail", "broken by the series"),
    VerdictChange.NEW_KNOWN: ("warn", "with a known issue that the base does not show"),
    VerdictChange.MORE_OFTEN: ("fail", "failing more often than on the base"),
    VerdictChange.UNDECIDED: ("warn", "of undecided rate"),
    VerdictChange.RARER: ("pass", "failing less often"),
    VerdictChange.OTHER: ("warn", "bad in another way than on the base"),
    VerdictChange.GONE: ("warn", "no longer run"),
    VerdictChange.ERROR: ("warn", "not judged"),
    VerdictChange.FIXED: ("pass", "fixed"),
    VerdictChange.NEW: ("pass", "new and good"),
}
"""What each change of a verdict means for the series, the worst first."""


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    status: Status
    summary: str
    """One line."""
    details: str = ""
    directory: Path | None = None
    """Holds both runs; None if nothing ran."""
    exit_code: int = 0

    @classmethod
    def of(cls, found: Comparison, directory: Path) -> "Result":
        """Sum up a comparison. A check in which every case was skipped has tested nothing."""
        counts = Counter(difference.change for difference in found.differences)
        changes = ((counts[change], words) for change, (_, words) in _CHANGES.items())
        said = [f"{counted(count, 'case')} {words}" for count, words in changes if count]
        statuses: list[Status] = [_CHANGES[change][0] for change in counts]
        judged = {name: count for name, count in found.still.items() if name != Verdict.SKIP}
        if not counts and not judged:
            statuses, said = ["warn"], ["nothing was tested: every case was skipped"]
        elif judged:
            said.append(f"{counted(sum(judged.values()), 'case')} as on the base")
        status = next(status for status in _WORST if status in statuses or status == "pass")
        return cls(status, ", ".join(said), str(found), directory, found.exit_code)

    @classmethod
    def of_error(cls, error: HarnessError, *, status: Status = "warn", summary: str = "") -> "Result":
        """Report an error: of the input, the host or the harness unless ``status`` blames the series."""
        hint = f"\n{error.hint}" if error.hint else ""
        summary = f"{summary}: {error}" if summary else str(error)
        return cls(status, one_line(summary), f"{error}{hint}", exit_code=error.exit_code)


@click.command()
@click.option("--b4", is_flag=True, help="Print a JSON array for b4.review-series-check-cmd.")
@click.option("--patchwork", is_flag=True, help="Print a check of patchwork as a JSON object.")
@click.option("--url", metavar="URL", help="Where results/ is published, for links.  [default: file:// of this host]")
@takes_options("check")
def check(b4: bool, patchwork: bool, url: str | None, **values: Any) -> None:
    """Test a series from standard input; print the result as JSON.

    Standard input is a patch, an mbox of a series, or one mail of a series, which b4 then fetches by its message-id.
    Runs the cases that the touched files concern (vm-configs/touched-files.yaml) on the kernel without and with the
    series. Progress goes to standard error. Nothing is sent.

    The exit code is that of `run --base-vs-series`. Bad input is a result of its own, with the status warn.
    """
    if b4 == patchwork:
        raise click.UsageError("name one form of the result: --b4 or --patchwork")
    options = Options(**given(values))
    with Terminal(options.make_variables(), to_stderr=True) as terminal:
        found = result(_standard_input(), options, terminal.emit)
    shown = b4_results(found, url) if b4 else patchwork_check(found, options, url)
    click.echo(json.dumps(shown, indent=2))
    sys.exit(found.exit_code if found else 0)


def _standard_input() -> bytes:
    stream = sys.stdin.buffer
    return b"" if stream.isatty() else stream.read(MAX_INPUT + 1)


def result(data: bytes, options: Options, emit: Emit) -> Result | None:
    """Run the check; None if the series concerns no case. Every HarnessError becomes a result."""
    try:
        series = series_of(data, emit)
        patterns = concerned(series.touched)
        if not patterns:
            return None
        cases = () if ALL in patterns else _node_ids(patterns)
        _must_apply(series, options, emit)
    except HarnessError as error:
        return Result.of_error(error)
    try:
        return Result.of(*base_vs_series(replace(options, series=series.given), cases, emit))
    except KernelBuildError as error:
        return Result.of_error(error, summary="the base does not build")
    except KernelError as error:  # a child's: the base was built in this process
        return Result.of_error(error, status="fail", summary="the series does not build")
    except HarnessError as error:
        return Result.of_error(error)


def series_of(data: bytes, emit: Emit) -> Series:
    """Read a series. One mail of it is enough, if it has a message-id.

    The series is kept in the cache, so that the commands that the reports print work later.

    Raises UsageError without a patch or a message-id, MissingPrerequisite if b4 is needed and missing, and HarnessError
    if b4 finds no series.
    """
    if not data.strip():
        raise UsageError("standard input is empty: it must be a patch, an mbox, or one mail of a series")
    if len(data) > MAX_INPUT:
        raise UsageError(f"standard input has more than {MAX_INPUT >> 20} MiB: it must be a series of patches")
    kept = cache_path("series", f"{digest(data)}.mbox")
    write_atomically(kept, data)
    try:
        return Series.load(str(kept), emit)
    except UsageError as error:
        if message_id := _message_id(data):
            return Series.load(message_id, emit)
        complaint = str(error).replace(f"SERIES={kept}", "standard input").replace(str(kept), "standard input")
        raise UsageError(f"{complaint}, and no message-id", hint="pipe an mbox of the whole series") from None


def _message_id(data: bytes) -> str:
    """Return the message-id of the first mail; empty without one that may be a word of a command."""
    try:
        found = str(message_from_bytes(data, policy=policy.default).get("Message-ID", ""))
    except (HeaderParseError, ValueError, IndexError):  # the parser of Python 3.11 raises these on broken headers
        return ""
    match = _MESSAGE_ID.fullmatch(found.strip())
    return match[1] if match else ""


def _node_ids(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(case.node for case in collect() if matches(patterns, case.id))


def _must_apply(series: Series, options: Options, emit: Emit) -> None:
    """Raise KernelError if the series does not apply to the base: then the base is wrong, rather than the series."""
    found = resolve_kernel(options.kernel, emit)
    if isinstance(found, SourceTree):
        series.files(found.path)


def b4_results(found: Result | None, url: str | None) -> list[dict[str, str]]:
    """Return the results for b4. An empty array: there is nothing to report."""
    if found is None:
        return []
    entry = {"tool": TOOL, "status": found.status, "summary": one_line(found.summary)}
    if found.directory:
        entry["url"] = _link(found.directory, url)
    return [{**entry, "details": printable(found.details, MAX_DETAILS)}]


def patchwork_check(found: Result | None, options: Options, url: str | None) -> dict[str, str]:
    """Return the check for patchwork. No check must look like a success, so what was not tested is a warning."""
    found = found or Result("warn", "nothing was tested: no case concerns the files of the series")
    shown = {
        "state": _STATES[found.status],
        "context": _context(options),
        "description": one_line(found.summary, MAX_DESCRIPTION),
    }
    return {**shown, "target_url": _link(found.directory, url)} if found.directory else shown


def _context(options: Options) -> str:
    """Return the name of the check, a slug: one for each flavour, and for each other suite and machine."""
    more = [value for value, default in _varied(options) if value != default]
    words = "-".join(["vfio-dmabuf", options.flavour, *more])
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in words)[
        :MAX_DESCRIPTION
    ]


def _varied(options: Options) -> tuple[tuple[str, str], ...]:
    return (options.suite, Options.suite), (Path(options.machine).stem, Options.machine)


def _link(directory: Path, url: str | None) -> str:
    """Return the address of the report of the run with the series."""
    report = "series/latest/report.html"
    return f"{url.rstrip('/')}/{directory.name}/{report}" if url else (directory / report).as_uri()

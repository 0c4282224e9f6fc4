# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness review`` (``review.json``), and its diff as a page: what the cases know of a change."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import Field

from harness.errors import HarnessError
from harness.report import pages
from harness.report.outcomes import COLOURS, MutantOutcome, Record
from harness.report.record import RunDirectory, write_report
from harness.report.text import counted
from harness.verdict import KernelRecord

SCHEMA = "vfio-harness/review/1"
LATEST = "latest-review"
FILE = "review.json"
PAGE = "review.html"


class LineState(StrEnum):
    """What the cases know of a changed line."""

    REACHED = "reached"
    NOT_REACHED = "not reached"
    """No case reaches it on the machines of this review."""
    UNREACHABLE = "unreachable"
    """No machine can reach it, as vm-configs/unreached.yaml says."""
    NO_CODE = "no code"
    """A comment, a declaration, a macro, data, or a file that this kernel does not compile."""


class LineMutant(Record):
    """A fault that a rule has put into a changed line."""

    id: str
    """Function, line, rule and a number."""
    file: str
    """The file, relative to the source tree."""
    line: int
    """The first line that it changes."""
    what: str
    """What stood there, what stands there now, and the rule."""
    outcome: MutantOutcome
    """Whether the cases noticed it."""
    case: str | None = None
    """The case that noticed it."""
    machine: str = ""
    """The machine of the run that decided."""
    reason: str = ""
    """The reason of that case's verdict, of an equivalent mutant, or of an error."""
    results: str = ""
    """The directory of the run that decided, next to the record."""


class ReviewedLine(Record):
    """A line that the change adds or rewrites."""

    file: str
    line: int
    """Its number in the changed source, from 1."""
    text: str
    function: str = ""
    """The function that it is in; empty outside functions, and for a line without code."""
    state: LineState
    cases: list[str] = Field(default_factory=list)
    """The cases that reach it, each with its machine."""
    reason: str = ""
    """Why no case reaches it, if vm-configs/unreached.yaml says so; or why it has no code."""
    caught: list[str] = Field(default_factory=list)
    """Its mutants that a case caught: what it is, and the case."""
    survived: list[str] = Field(default_factory=list)
    """Its mutants that no case noticed: what is not tested."""
    masked: list[str] = Field(default_factory=list)
    """Its mutants that no case could notice: what is not known."""


class Survivor(Record):
    """A fault in a changed line that no case notices."""

    file: str
    line: int
    what: str


class ReviewRecord(Record):
    """``review.json``, which ``--json`` prints."""

    schema_: str = Field(SCHEMA, alias="schema")
    """The version of the record."""
    changed: int
    """Lines that the change adds or rewrites, without those that have no code."""
    reached: int
    """Those of them that a case reaches."""
    mutants: int
    """Mutants of these lines that a case could notice."""
    caught: int
    """Those of them that a case noticed."""
    survived: list[Survivor]
    """The others."""
    unreached: list[ReviewedLine]
    """The changed lines with code that no case reaches."""
    unreachable: int
    """Those of them that no machine can reach."""
    no_code: int
    """Changed lines that have no code."""
    candidates: int
    """How many mutants the rules find in the lines that a case reaches; ``--sample`` limits how many of them run."""
    equivalent: int
    """Mutants that behave like the original: vm-configs/equivalent-mutants.yaml."""
    masked: int
    """Mutants that no case could notice, because each that reaches them blames the kernel without them, too."""
    cover_letter: str
    """The result in one paragraph, for the series' cover letter."""
    run_id: str
    """The name of the directory of the review."""
    started: str
    """When it started: ISO 8601, UTC."""
    duration_s: float
    """How long it took, in seconds."""
    harness: str
    """The version of vfio-harness."""
    kernel: KernelRecord
    """The kernel with the change."""
    change: list[str]
    """The subjects of the patches, or the commit since which the tree has changed."""
    machines: list[str]
    """The machines on which the cases ran; ``with --fail-nth`` for a run with failing allocations."""
    verdicts: dict[str, int]
    """How many cases got each verdict on the changed kernel, on the first machine."""
    bad: list[str]
    """The cases that blame the changed kernel, with the machine and the verdict."""
    lines: list[ReviewedLine]
    """Every changed line."""
    judged: list[LineMutant]
    """Every mutant."""

    @property
    def exit_code(self) -> int:
        """0 if every mutant was judged, else 3. What the review finds is no failure."""
        errors = any(mutant.outcome is MutantOutcome.ERROR for mutant in self.judged)
        return HarnessError.exit_code if errors else 0


@dataclass(frozen=True)
class Counts:
    """The figures of a review."""

    changed: int
    reached: int
    unreachable: int
    no_code: int
    mutants: int
    caught: int
    masked: int

    @classmethod
    def of(cls, lines: Sequence[ReviewedLine], mutants: Sequence[LineMutant]) -> "Counts":
        """Count."""
        states = [line.state for line in lines]
        outcomes = [mutant.outcome for mutant in mutants]
        caught = outcomes.count(MutantOutcome.CAUGHT)
        return cls(
            changed=len(states) - states.count(LineState.NO_CODE),
            reached=states.count(LineState.REACHED),
            unreachable=states.count(LineState.UNREACHABLE),
            no_code=states.count(LineState.NO_CODE),
            mutants=caught + outcomes.count(MutantOutcome.SURVIVED),
            caught=caught,
            masked=outcomes.count(MutantOutcome.MASKED),
        )

    def cover_letter(self) -> str:
        """Return the line for the cover letter, and what the figures leave out."""
        mutants = f", {self.caught} of {self.mutants} mutants caught" if self.mutants else ""
        said = [f"{counted(self.changed, 'line')} changed, {self.reached} reached{mutants}."]
        if self.masked:
            which = "it" if self.masked == 1 else "them"
            said.append(
                f"{self.masked} more could not be judged: each case that reaches {which} fails without {which}, too."
            )
        if self.unreachable:
            said.append(f"No machine can reach {counted(self.unreachable, 'line')}.")
        if self.no_code:
            said.append(f"{counted(self.no_code, 'line')} without code.")
        return " ".join(said)


@dataclass(frozen=True)
class ShownLine:
    """A line of the diff as it is shown."""

    sign: str
    text: str
    colour: Literal["good", "warn", "bad", "info", "dim", ""]
    note: str = ""
    """A few words: what the cases know of it."""
    title: str = ""
    """The cases, or the reason."""
    remarks: tuple[str, ...] = ()
    """What is not tested."""


@dataclass(frozen=True)
class ShownHunk:
    """A hunk of the diff as it is shown."""

    head: str
    lines: tuple[ShownLine, ...]


Files = Sequence[tuple[str, Sequence[ShownHunk]]]
"""The diff as it is shown, file by file."""

MAX_CASES = 12
"""Cases that a line names; the rest is counted."""


def shown(sign: str, text: str, line: ReviewedLine | None) -> ShownLine:
    """Return a line of the diff with its colour and its notes. ``line``: what is known of it, if the change adds it."""
    if line is None:
        return ShownLine(sign, text, "dim" if sign == "-" else "")
    remarks = (
        *(f"not tested: {what}" for what in line.survived),
        *(f"not known: {what}: each case that reaches it fails without it, too" for what in line.masked),
    )
    match line.state:
        case LineState.NO_CODE:
            return ShownLine(sign, text, "dim", "no code", line.reason)
        case LineState.UNREACHABLE:
            return ShownLine(sign, text, "info", "unreachable", line.reason)
        case LineState.NOT_REACHED:
            said = f"not tested: no case reaches it{f' ({line.reason})' if line.reason else ''}"
            return ShownLine(sign, text, "bad", "not reached", line.reason, (said,))
    count = len(line.cases)
    more = f" and {count - MAX_CASES} more" if count > MAX_CASES else ""
    title = f"{', '.join(line.cases[:MAX_CASES])}{more}"
    if line.caught:
        title += f"; caught: {'; '.join(line.caught)}"
    note = counted(count, "case")
    return ShownLine(sign, text, "warn" if remarks else "good", note, title, remarks)


def write(record: ReviewRecord, files: Files, directory: RunDirectory) -> None:
    """Write ``review.json`` and ``review.html``; point ``latest-review`` at their directory."""
    write_report(directory.path / FILE, to_json(record))
    write_report(directory.path / PAGE, render(record, files))
    directory.link_as(LATEST)


def to_json(record: ReviewRecord) -> str:
    """Return ``review.json``."""
    return record.model_dump_json(by_alias=True, indent=2) + "\n"


def render(record: ReviewRecord, files: Files) -> str:
    """Render the page. ``files``: the diff, file by file."""
    what = record.change[0] if len(record.change) == 1 else f"{len(record.change)} patches"
    return pages.render(
        "review.html",
        title=f"vfio-harness: review of {what}",
        record=record,
        known={
            "review": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
            "kernel": f"{record.kernel.release} from {record.kernel.origin}",
            "change": ", ".join(record.change),
            "machines": ", ".join(record.machines),
            "mutants": f"{len(record.judged)} of {record.candidates}",
            "bad cases": ", ".join(record.bad),
        },
        files=files,
        COLOURS=COLOURS,
    )

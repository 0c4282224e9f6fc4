# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness mutants --auto`` (``auto-mutants.json``) and its page: which faults the cases notice."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import Field

from harness.errors import HarnessError
from harness.report import pages
from harness.report.outcomes import COLOURS, MutantOutcome, Record
from harness.report.record import RunDirectory, read_record, write_report
from harness.report.text import one_line
from harness.verdict import KernelRecord, Verdict

SCHEMA = "vfio-harness/auto-mutants/1"
LATEST = "latest-auto-mutants"
FILE = "auto-mutants.json"
CONTEXT = 3
"""Source lines that the page shows above and below a surviving mutant."""


class AutoMutantRecord(Record):
    """One mutant."""

    id: str
    """Function, line, rule and a number."""
    file: str
    """The file, relative to the source tree."""
    function: str
    """The function that it changes."""
    line: int
    """The first line that it changes."""
    rule: str
    """The rule that made it: harness/bugs/rules.py."""
    description: str
    """What stood there, and what stands there now."""
    machine: str
    """The machine of the runs that decided."""
    outcome: MutantOutcome
    """Whether the cases noticed it."""
    case: str | None = None
    """The first case whose verdict differs from the control's."""
    was: Verdict | None = None
    """The control's verdict of that case."""
    verdict: Verdict | None = None
    """Its verdict with the mutant."""
    reason: str = ""
    """The reason of that verdict, of an equivalent mutant, or of an error."""
    results: str = ""
    """The directory of the run that decided, next to the record."""

    def __str__(self) -> str:
        """Return one line."""
        change = f"{self.was} -> {self.verdict} by {self.case}: " if self.case else ""
        return f"{self.outcome:<10} {self.id} ({self.description}) {change}{one_line(self.reason)}".rstrip()


class AutoMutantsRecord(Record):
    """``auto-mutants.json``."""

    schema_: str = Field(SCHEMA, alias="schema")
    """The version of the record."""
    run_id: str
    """The name of the directory of the run."""
    started: str
    """When the run started: ISO 8601, UTC."""
    duration_s: float
    """How long it took, in seconds."""
    harness: str
    """The version of vfio-harness."""
    kernel: KernelRecord
    """The kernel that the mutants were made of."""
    seed: int
    """The seed of the sample."""
    candidates: int
    """How many mutants the rules find in the functions that were asked for."""
    refused: int
    """How many of those drawn do not compile without a warning; they were replaced."""
    same: int
    """How many of those drawn compile to the original's object code; they were replaced."""
    survivors_of: str = ""
    """The run whose survivors these are, if any. What that run caught is in this record, too."""
    control: dict[str, int]
    """How many cases got each verdict on the first machine without a mutant."""
    unstable: list[str]
    """``case on machine``, for those that had another verdict in a second run without a mutant: they were left out."""
    mutants: list[AutoMutantRecord]
    """The mutants, in the order of the source."""

    @property
    def score(self) -> float | None:
        """The share of the mutants that were caught, of those that a case could notice; None without any."""
        caught = self.count(MutantOutcome.CAUGHT)
        total = caught + self.count(MutantOutcome.SURVIVED)
        return caught / total if total else None

    def count(self, outcome: MutantOutcome) -> int:
        """Return how many mutants had an outcome."""
        return sum(mutant.outcome is outcome for mutant in self.mutants)

    def tally(self) -> str:
        """Return the counts and the score."""
        counts = [f"{self.count(outcome)} {outcome}" for outcome in MutantOutcome if self.count(outcome)]
        score = "no score" if self.score is None else f"score {self.score:.0%}"
        return f"{', '.join(counts) or 'no mutant'}; {score}"

    @property
    def exit_code(self) -> int:
        """0 if every mutant was judged, else 3. A low score is a finding, not a failure."""
        return HarnessError.exit_code if self.count(MutantOutcome.ERROR) else 0


def read(directory: Path) -> AutoMutantsRecord:
    """Read the record in a directory. Raises UsageError if there is none, or one that this version cannot read."""
    hint = f"name a run of mutants --auto, such as results/{LATEST}"
    return read_record(directory / FILE, AutoMutantsRecord, SCHEMA, hint=hint)


def write(record: AutoMutantsRecord, sources: Mapping[str, Sequence[str]], directory: RunDirectory) -> None:
    """Write ``auto-mutants.json`` and ``auto-mutants.html``; point ``latest-auto-mutants`` at their directory."""
    write_report(directory.path / FILE, record.model_dump_json(by_alias=True, indent=2) + "\n")
    write_report(directory.path / "auto-mutants.html", render(record, sources))
    directory.link_as(LATEST)


def render(record: AutoMutantsRecord, sources: Mapping[str, Sequence[str]]) -> str:
    """Render the page. ``sources``: the lines of each file that a mutant changes."""
    survivors = [mutant for mutant in record.mutants if mutant.outcome is MutantOutcome.SURVIVED]
    by_function = groupby(survivors, key=lambda mutant: (mutant.file, mutant.function))
    return pages.render(
        "auto-mutants.html",
        title=f"vfio-harness: {len(record.mutants)} automatic mutants of {record.kernel.release}",
        record=record,
        known={
            "run": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
            "kernel": f"{record.kernel.release} from {record.kernel.origin}",
            "sample": f"seed {record.seed}, {len(record.mutants)} of {record.candidates}; {record.refused} did not"
            f" compile without a warning, {record.same} changed no code",
            "left out": ", ".join(record.unstable),
        },
        survivors=[
            (file, function, [(mutant, excerpt(sources[file], mutant.line)) for mutant in mutants])
            for (file, function), mutants in by_function
        ],
        COLOURS=COLOURS,
    )


def excerpt(lines: Sequence[str], line: int) -> list[tuple[int, str, bool]]:
    """Return the lines around a line: number from 1, text, and whether it is the one."""
    first, last = max(1, line - CONTEXT), min(len(lines), line + CONTEXT)
    return [(number, lines[number - 1], number == line) for number in range(first, last + 1)]

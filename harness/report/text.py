# SPDX-License-Identifier: GPL-2.0-only
"""Text that several renderers share. Text from the guest always passes ``harness.escape.printable``."""

import re
import shlex
from collections.abc import Iterable, Mapping

from harness import paths
from harness.escape import printable
from harness.verdict import CaseRecord, Evidence, RunRecord, Verdict

MAX_LINE = 200
"""Characters."""
KEY_EVIDENCE = 5
"""Observations of a bad case that terminal and KTAP show. report.html has all."""

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")

_SEED = ("SEED", "--seed")

CHANGES_HINT = "If the change does not claim this fix, look at it: it may hide the bug."


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """Return the first line of ``text``, printable, in at most ``limit`` characters."""
    return cut(text.strip().partition("\n")[0].replace("\t", " "), limit)


def counted(count: int, noun: str) -> str:
    """Return ``1 case`` or ``2 cases``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def without_numbers(text: str) -> str:
    """Return a text without what differs from run to run, such as times and addresses, to compare it."""
    return _NUMBERS.sub("#", text)


def cut(text: str, limit: int) -> str:
    """Return ``text``, printable, in at most ``limit`` characters. Megabytes cost no more than ``limit``."""
    return printable(text[: limit + 1], limit)


def key_evidence(case: CaseRecord) -> list[Evidence]:
    """Return the last observations of a case: the closest ones to the failure."""
    return list(case.evidence[-KEY_EVIDENCE:])


def summarise(cases: Iterable[CaseRecord]) -> dict[str, int]:
    """Count the cases by verdict, for ``RunRecord.summary``. Verdicts that did not occur count 0."""
    counts = dict.fromkeys((str(verdict) for verdict in Verdict), 0)
    for case in cases:
        counts[str(case.verdict)] += 1
    return counts


def by_area(cases: Iterable[CaseRecord]) -> dict[str, list[CaseRecord]]:
    """Group the cases by area, both in the order of the run."""
    areas: dict[str, list[CaseRecord]] = {}
    for case in cases:
        areas.setdefault(case.area, []).append(case)
    return areas


def tally(summary: Mapping[str, int]) -> str:
    """Return the verdicts that occurred, e.g. ``41 PASS, 2 FAIL``."""
    return ", ".join(f"{count} {verdict}" for verdict, count in summary.items() if count) or "no case ran"


def changes(run: RunRecord) -> list[str]:
    """Return a line for each known issue that a changed kernel no longer shows, then a hint; empty without any."""
    lines = [
        f"changed: known issue {seen.issue} is no longer seen in case {seen.case} ({Verdict.FIXED})"
        for seen in run.no_longer_seen
    ]
    return [*lines, CHANGES_HINT] if lines else []


def repeat_command(case: CaseRecord, settings: Mapping[str, str], command: str = "run") -> str:
    """Return the command that runs this case again. ``settings`` and ``command``: see ``command_for``.

    Each repetition of a case has a seed of its own, which replaces that of the run."""
    settings = {
        name: str(case.seed) if name in _SEED and case.seed is not None else settings[name] for name in settings
    }
    return command_for(case.id, settings, case.program.file if case.program else None, command)


def command_for(name: str, settings: Mapping[str, str], program: str | None = None, command: str = "run") -> str:
    """Return the command that runs the case with the id ``name``, for a shell.

    ``settings``: the make variables of the run, e.g. KERNEL; flags such as --kernel if it had no Makefile. ``program``:
    the file of a random program that the case shall run. ``command``: the subcommand of ``vfio-harness``.
    """
    make = not any(setting.startswith("-") for setting in settings) if settings else not paths.INSTALLED
    words = {**settings, "K" if make else "-k": name.rpartition("::")[2]}
    if program:
        words["PROGRAM" if make else "--program"] = program
    if not make:
        return shlex.join(["vfio-harness", command, *(word for pair in words.items() for word in pair if word)])
    target = "vm-test" if command == "run" else command
    return " ".join([f"make {target}", *(f"{word}={shlex.quote(value)}" for word, value in words.items())])

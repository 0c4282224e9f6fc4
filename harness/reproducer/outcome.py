# SPDX-License-Identifier: GPL-2.0-only
"""Read the verdict of a reproducer in the console of its machine."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.escape import printable
from harness.verdict import KERNEL_AT_FAULT, Verdict

_STAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ")
"""The time that the kernel prints before a line, and the thread that some configurations add."""
_PROGRAM = re.compile(r"KTAP version|1\.\.1$|# |(?:not )?ok 1 |Bail out!")


@dataclass(frozen=True)
class Outcome:
    """How a reproducer ended."""

    verdict: Verdict
    reason: str
    lines: tuple[str, ...]
    """What the program printed."""

    def agrees_with(self, verdict: Verdict) -> bool:
        """Return whether it says the same of the kernel as a case: at fault, or not.

        A program that was not judged agrees with nothing.
        """
        if self.verdict in (Verdict.SKIP, Verdict.ERROR):
            return False
        faulty = verdict in KERNEL_AT_FAULT or verdict is Verdict.KNOWN
        return (self.verdict in KERNEL_AT_FAULT) == faulty


def read(console: str, *, ended: str) -> Outcome:
    """Judge by the console. ``ended``: how the machine ended, if the program printed no verdict."""
    lines = tuple(_lines(console))
    for line in lines:
        if line.startswith("ok 1 "):
            skipped = "# SKIP" in line
            return Outcome(Verdict.SKIP if skipped else Verdict.PASS, _seen(lines, line), lines)
        if line.startswith("not ok 1 "):
            return Outcome(_broken(line), _seen(lines, line), lines)
        if line.startswith("Bail out!"):
            return Outcome(Verdict.ERROR, _seen(lines, line), lines)
    return Outcome(Verdict.CRASH if lines else Verdict.ERROR, f"no verdict: {ended}", lines)


def _broken(line: str) -> Verdict:
    if line.endswith(": the kernel complained"):
        return Verdict.SPLAT
    return Verdict.HANG if line.endswith(": a call does not return") else Verdict.FAIL


def _seen(lines: tuple[str, ...], line: str) -> str:
    """Return what the program saw, or the line with its verdict."""
    seen = [each.removeprefix("# seen").removeprefix(" in the kernel's log").removeprefix(": ") for each in lines
            if each.startswith("# seen")]  # fmt: skip
    return seen[-1] if seen else line


def _lines(console: str) -> Iterator[str]:
    """Yield the program's lines, without the kernel's time."""
    for line in console.splitlines():
        text = _STAMP.sub("", line)
        if text != line and _PROGRAM.match(text):
            yield printable(text.strip())

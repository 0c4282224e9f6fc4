# SPDX-License-Identifier: GPL-2.0-only
"""Words shared by all renderers. A guest's text reaches none of them but through ``printable``."""

import shlex
from collections.abc import Iterable, Mapping

from harness.verdict import CaseRecord, Evidence, Verdict

MAX_LINE = 200
KEY_EVIDENCE = 5


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with every control character but newline and tab as ``\\xNN``, cut to ``limit`` characters.

    Also what would garble a terminal or is no XML: C1 controls, surrogates, and the marks that reverse a line.
    """
    safe = "".join(char if char in "\n\t" or char.isprintable() else _code(char) for char in text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 3] + "..."


def _code(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """``text``'s first line, printable and cut."""
    return printable(text.strip().partition("\n")[0].replace("\t", " "), limit)


def key_evidence(case: CaseRecord) -> list[Evidence]:
    """The last observations before the end: those nearest to what went wrong."""
    return list(case.evidence[-KEY_EVIDENCE:])


def summarise(cases: Iterable[CaseRecord]) -> dict[str, int]:
    """How many cases ended with each verdict, all verdicts named: ``RunRecord.summary``."""
    counts = dict.fromkeys((str(verdict) for verdict in Verdict), 0)
    for case in cases:
        counts[str(case.verdict)] += 1
    return counts


def tally(summary: Mapping[str, int]) -> str:
    """``41 PASS, 2 FAIL``: the verdicts that occurred."""
    return ", ".join(f"{count} {verdict}" for verdict, count in summary.items() if count) or "no case ran"


def repeat_command(case: CaseRecord, settings: Mapping[str, str]) -> str:
    """The command that runs this one case again; ``settings`` are the make variables of the run, e.g. KERNEL."""
    words = {**settings, "K": case.id.rpartition("::")[2]}
    return " ".join(["make vm-test", *(f"{name}={shlex.quote(value)}" for name, value in words.items())])

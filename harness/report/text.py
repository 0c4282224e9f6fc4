# SPDX-License-Identifier: GPL-2.0-only
"""Words shared by all renderers. A guest's text reaches none of them but through ``untrusted.printable``."""

import shlex
from collections.abc import Iterable, Mapping

from harness.escape import printable
from harness.verdict import CaseRecord, Evidence, Verdict

MAX_LINE = 200
KEY_EVIDENCE = 5


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

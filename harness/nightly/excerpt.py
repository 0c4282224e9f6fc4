# SPDX-License-Identifier: GPL-2.0-only
"""The part of a case's evidence that a reader outside needs: its last observations, and the kernel's log."""

from collections.abc import Iterator

from harness.escape import printable
from harness.verdict import CaseRecord, Evidence
from harness.witness.splat import parse_splat


def last_observations(case: CaseRecord, count: int, width: int) -> list[str]:
    """Return a line for each of the last ``count`` observations that are no splat, in at most ``width`` characters."""
    seen = [item for item in case.evidence if not _is_splat(item)]
    return [printable(f"{item.t:8.3f} {item.source:7} {_first_line(item)}", width) for item in seen[-count:]]


def splat_lines(case: CaseRecord, count: int, width: int) -> list[str]:
    """Return the first ``count`` lines of the kernel's complaints, each in at most ``width`` characters."""
    lines = list(_splat_lines(case))
    shown = [printable(line.replace("\t", " "), width) for line in lines[:count]]
    return [*shown, f"... {len(lines) - count} more lines"] if len(lines) > count else shown


def _splat_lines(case: CaseRecord) -> Iterator[str]:
    for item in case.evidence:
        if _is_splat(item):
            yield from item.text.splitlines()


def _is_splat(item: Evidence) -> bool:
    return item.source == "console" and parse_splat(item.text) is not None


def _first_line(item: Evidence) -> str:
    return item.text.strip().partition("\n")[0].replace("\t", " ")

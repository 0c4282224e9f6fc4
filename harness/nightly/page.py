# SPDX-License-Identifier: GPL-2.0-only
"""``index.html`` of a night: one static page with no script, for the maintainer who has five seconds in the morning.

What has changed since the last night comes first, by tree and then in detail. Then come problems, MISS, flaky, slower,
overdue known issues, the matrix, and the rest, folded. The page has a size limit, however much a guest prints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.nightly.cells import NightVerdicts
from harness.nightly.mail import FILE as MAIL
from harness.nightly.outcomes import Key
from harness.nightly.page_data import NightPage, first
from harness.report import pages
from harness.report.parts import MISS
from harness.report.record import write_report
from harness.report.text import cut, one_line
from harness.verdict import BAD, KERNEL_AT_FAULT

FILE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
LIMIT = 1_900_000
"""Bytes of the page."""
LETTERS = {"PASS": "·", "SKIP": "-", "FIXED": "+", "MISS": "?", "": ""}
"""What the matrix shows of a verdict; else its first letter."""

FRAMES = 10
"""Lines of a splat. The report of the run has more."""


@dataclass(frozen=True)
class Detail:
    """How much the page shows."""

    groups: int
    """Changes and problems, each a group, under one heading."""
    pictures: int
    """Groups under one heading that have their timeline and their splats."""
    rows: int
    """Rows of each part of the matrix."""
    characters: int
    """Characters of a reason."""


DETAILS = (
    Detail(groups=60, pictures=8, rows=1500, characters=600),
    Detail(groups=40, pictures=0, rows=400, characters=200),
    Detail(groups=10, pictures=0, rows=0, characters=100),
)
"""From the most to the least. The first that fits is taken."""


def write_page(
    verdicts: NightVerdicts,
    *,
    last_night: str | None = None,
    blamed: Mapping[Key, str] | None = None,
    overdue: Sequence[str] = (),
    slower: Sequence[str] = (),
) -> Path:
    """Write ``index.html`` of a night, and return its path.

    Args:
        verdicts: The night.
        last_night: The name of the night with which it was compared; empty if it is the first of its plan, None if it
            is not known.
        blamed: The first bad commits that earlier nights have found, of the cases that are still bad.
        overdue: A line for each known issue whose ``review_by`` has passed.
        slower: A line for each case that is slower than before.

    Raises HarnessError if the page cannot be written.
    """
    path = verdicts.directory / FILE
    write_report(path, render(NightPage(verdicts, blamed), last_night=last_night, overdue=overdue, slower=slower))
    return path


def render(
    page: NightPage, *, last_night: str | None = None, overdue: Sequence[str] = (), slower: Sequence[str] = ()
) -> str:
    """Render the page. See ``write_page``."""
    text = ""
    for detail in DETAILS:
        text = pages.render(
            "night.html",
            directory=TEMPLATES,
            title=f"Night {page.night.night}",
            page=page,
            last_night=last_night,
            overdue=overdue,
            slower_cases=slower,
            detail=detail,
            first=first,
            cut=cut,
            one_line=one_line,
            BAD=BAD,
            AT_FAULT=frozenset(map(str, KERNEL_AT_FAULT)),
            mail=MAIL if (page.directory / MAIL).exists() else "",
            MISS=MISS,
            LETTERS=LETTERS,
            FRAMES=FRAMES,
        )
        if len(text.encode()) <= LIMIT:
            break
    return text

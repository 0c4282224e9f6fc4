# SPDX-License-Identifier: GPL-2.0-only
"""A summary of a run for the page of a CI job, e.g. GITHUB_STEP_SUMMARY: what is not PASS, in one table.

The table is HTML, which Markdown allows: text of a guest is then escaped by one rule, and no markup works in it.
"""

from collections.abc import Iterator
from html import escape

from harness.report.text import changes, one_line, tally
from harness.verdict import WORST_FIRST, CaseRecord, RunRecord, Verdict

MAX_ROWS = 200
"""GitHub refuses a summary of more than 1 MiB; a row has 1.3 kB at most."""


def render(record: RunRecord) -> str:
    """Render the summary. It ends with a newline."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: RunRecord) -> Iterator[str]:
    kernel = record.kernel
    yield f"### vfio-harness: {escape(tally(record.summary))}"
    yield ""
    yield f"<p>{_text(f'kernel {kernel.release} ({kernel.origin}), machine {record.machine}, {record.host.qemu}')}</p>"
    yield from (f"<p>{_text(patch)}</p>" for patch in kernel.patches)
    yield from (f"<p>{_text(line)}</p>" for line in changes(record))
    listed = (case for case in record.cases if case.verdict is not Verdict.PASS)
    rows = sorted(listed, key=lambda case: WORST_FIRST.index(case.verdict))
    if rows:
        yield "<table>"
        yield "<tr><th>verdict</th><th>case</th><th>rule</th><th>reason</th></tr>"
        yield from map(_row, rows[:MAX_ROWS])
        yield "</table>"
    if len(rows) > MAX_ROWS:
        yield f"<p>and {len(rows) - MAX_ROWS} more: see report.html</p>"


def _row(case: CaseRecord) -> str:
    known = f" ({case.known_issue})" if case.known_issue else ""
    cells = (f"{case.verdict}{known}", case.id, case.title, case.reason)
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"


def _text(text: str | None) -> str:
    return escape(one_line(text or ""))

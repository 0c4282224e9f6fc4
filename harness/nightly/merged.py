# SPDX-License-Identifier: GPL-2.0-only
"""``junit.xml`` and ``report.ktap`` of a night: each case of each cell with the verdict that counts, or MISS."""

from harness.nightly.cells import CellVerdicts, NightVerdicts
from harness.report import junit, ktap
from harness.report.parts import Part
from harness.report.record import write_report

JUNIT = "junit.xml"
KTAP = "report.ktap"


def write_merged(verdicts: NightVerdicts) -> None:
    """Write both files of a night. Raises HarnessError if they cannot be written."""
    parts = [_part(cell) for cell in verdicts.cells]
    write_report(verdicts.directory / JUNIT, junit.render_parts(parts))
    write_report(verdicts.directory / KTAP, ktap.render_parts(parts))


def _part(cell: CellVerdicts) -> Part:
    """Join the runs of a cell. A cell without a record whose cases the plan does not list is one case itself."""
    record = cell.merged()
    nothing = {} if record else {cell.cell.id: cell.why_missing()}
    return Part(cell.cell.id, record, cell.missing or nothing)

# SPDX-License-Identifier: GPL-2.0-only
"""The record of ``vfio-harness audit`` (``audit.json``): which known fixes a kernel has."""

from pydantic import Field

from harness.report.outcomes import Record
from harness.report.record import RunDirectory, write_report
from harness.report.text import one_line
from harness.verdict import KernelRecord

SCHEMA = "vfio-harness/audit/1"
LATEST = "latest-audit"
MISSING = "missing"


class AuditedBug(Record):
    """What the cases of one bug say of the kernel."""

    id: str
    """The id of the bug in the catalogue."""
    machine: str
    """The machine on which its cases ran."""
    state: str
    """As ``FixRecord.state``."""
    reason: str
    """Why."""
    cases: list[str]
    """The ids of the cases that decided."""


class FixRecord(Record):
    """One known fix."""

    commit: str | None
    """The commit upstream; None if it is not known."""
    subject: str
    """The subject of that commit, or what it changes."""
    state: str
    """``missing``, ``not judged``, ``present`` or ``not applicable``."""
    reason: str
    """Why, in one sentence."""
    proof: str | None
    """Of ``present``: how its cases are known to catch the bug. ``here``: it was put back into this kernel and shown.
    ``catalogue``: the catalogue says so, and ``vfio-harness mutants`` proves it on another kernel."""
    pick: str
    """What gives the fix to the kernel: the commit, or patches of the catalogue. Empty if neither is known."""
    bugs: list[AuditedBug]
    """The bugs that it fixed."""


class AuditRecord(Record):
    """``audit.json``."""

    schema_: str = Field(SCHEMA, alias="schema")
    """The version of the record."""
    run_id: str
    """The name of the directory of the runs."""
    started: str
    """When the audit started: ISO 8601, UTC."""
    duration_s: float
    """How long it took, in seconds."""
    harness: str
    """The version of vfio-harness."""
    kernel: KernelRecord
    """The kernel."""
    summary: dict[str, int]
    """How many fixes are in each state."""
    failed: list[str]
    """Runs that ended without a record for a reason of the harness or the host."""
    fixes: list[FixRecord]
    """The fixes: missing ones first."""

    def tally(self) -> str:
        """Return the counts, e.g. ``1 missing, 10 not judged, 9 present``."""
        return ", ".join(f"{count} {state}" for state, count in self.summary.items() if count) or "no fix is known"

    def __str__(self) -> str:
        """Return two lines for each fix, then what to pick."""
        width = max((len(fix.state) for fix in self.fixes), default=0)
        lines = [f"{self.kernel.release}, {self.kernel.origin}"]
        for fix in self.fixes:
            name = f"{fix.commit[:12]} {fix.subject}" if fix.commit else fix.subject
            lines += [f"{fix.state:{width}}  {name}", f"{'':{width}}  {one_line(fix.reason)}"]
        missing = [fix for fix in self.fixes if fix.state == MISSING]
        lines += [f"pick: {fix.pick}" for fix in missing if fix.pick]
        return "\n".join([*lines, *(f"ERROR: {one_line(text)}" for text in self.failed)])


def to_json(record: AuditRecord) -> str:
    """Return ``audit.json``."""
    return record.model_dump_json(by_alias=True, indent=2) + "\n"


def write(record: AuditRecord, directory: RunDirectory) -> None:
    """Write ``audit.json``, then point ``latest-audit`` at its directory."""
    write_report(directory.path / "audit.json", to_json(record))
    directory.link_as(LATEST)

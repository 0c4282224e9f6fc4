# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness coverage --kernel``: the lines and branches of the kernel's export path that the cases reach."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from harness.config.kernel_path import kernel_path
from harness.errors import UsageError
from harness.gcov.measure import KernelCoverage, measure
from harness.gcov.reasons import PATH, Gaps, Kind, find_gaps, load_reasons
from harness.report import load
from harness.report.coverage_page import render, shares
from harness.report.record import write_report

PAGE = "kernel-coverage.html"


def report_kernel_coverage(runs: Sequence[Path], *, as_json: bool) -> int:
    """Print the merged coverage of ``runs`` and write its page into the last one's directory; return the exit code.

    Raises UsageError for runs of different kernels, and what ``measure`` raises."""
    records = [load(run) for run in runs]
    releases = {record.kernel.release for record in records}
    if len(releases) != 1:
        raise UsageError(f"the runs are of different kernels: {', '.join(sorted(releases))}")
    release = releases.pop()
    found = measure(runs, kernel_path(release))
    gaps = find_gaps(found, load_reasons(release))
    page = runs[-1].resolve() / PAGE
    write_report(page, render(found, gaps, release, [record.run_id for record in records]))
    if as_json:
        click.echo(json.dumps(summary(found, gaps), indent=2))
    else:
        click.echo(f"{as_text(found, gaps)}\n{page}")
    return 1 if gaps.unexplained or gaps.stale else 0


def summary(found: KernelCoverage, gaps: Gaps) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "lines": found.line_count,
        "branches": found.branch_count,
        "impossible_branches": gaps.impossible_branches,
        "unexplained": gaps.unexplained,
        "explained": {kind: gaps.count(kind) for kind in Kind},
        "functions": {
            f"{function.file}:{function.name}": {"lines": function.line_count, "branches": function.branch_count}
            for function in found.functions.values()
        },
    }


def as_text(found: KernelCoverage, gaps: Gaps) -> str:
    """Return a line per function, then each gap without a reason, then the totals."""
    rows = []
    for function in found.functions.values():
        (reached, lines), (taken, branches) = function.line_count, function.branch_count
        rows.append(f"{reached:4}/{lines:<4} lines {taken:4}/{branches:<4} branches  {function.file}: {function.name}")
    for gap in gaps.found:
        if not gap.reason:
            what = f"{gap.branches} branches not taken" if gap.reached else "not reached"
            rows.append(f"{gap.file}:{gap.line}: {what}: {gap.text}")
    rows += [
        f"reached or gone, but {PATH.name} has a reason: {stale.entry.function}: {stale.pattern}"
        for stale in gaps.stale
    ]
    rows.append("unreached, with a reason: " + ", ".join(f"{gaps.count(kind)} {kind}" for kind in Kind))
    rows.append(f"{shares(found, gaps)}; {gaps.unexplained} unreached without a reason")
    return "\n".join(rows)

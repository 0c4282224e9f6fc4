# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness known``: the known issues."""

import sys
from datetime import UTC, datetime

import click

from harness.config.releases import is_release
from harness.run import known_issues


def _release(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_release(value):
        raise click.BadParameter(f"{value!r} is not a kernel release such as 7.4 or 7.4-rc1")
    return value


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole entries as JSON.")
@click.option(
    "--overdue",
    callback=_release,
    metavar="RELEASE",
    help="List only the entries to review by now, or by this kernel release.",
)
def known(as_json: bool, overdue: str | None) -> None:
    """List the known issues: bugs of released kernels.

    Each entry names the cases that show it, and has a date or a release by which somebody has to review it. The exit
    code is 1 if --overdue finds one.
    """
    issues = known_issues.catalogue()
    if overdue is not None:
        issues = known_issues.overdue(datetime.now(UTC).date(), overdue, issues)
    text = known_issues.as_text(issues) or "no known issue is due for a review"
    click.echo(known_issues.as_json(issues) if as_json else text)
    if overdue is not None and issues:
        sys.exit(1)

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness prune``: remove old results, and what no run needs from the cache."""

import re
from collections.abc import Iterator
from itertools import chain

import click

from harness import image, paths
from harness.host.held import Removed, prune_unused
from harness.kernel.prune import prune_cache
from harness.nested import image as nested
from harness.nightly.prune import prune_results
from harness.vm import debian_qemu

SECONDS = {"h": 3600.0, "d": 24 * 3600.0, "w": 7 * 24 * 3600.0}


def age(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Convert an age such as ``30d`` to seconds. Raises BadParameter for other text."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no age. Accepted are hours, days and weeks, such as 12h, 30d or 8w.")
    return int(found[1]) * SECONDS[found[2]]


@click.command()
@click.option("--keep", "keep_s", callback=age, default="30d", show_default=True, metavar="AGE",
              help="Keep what is younger: a number of hours, days or weeks, such as 12h, 30d or 8w.")  # fmt: skip
@click.option("--keep-failures", is_flag=True, help="Keep the runs and nights in which a case blames the kernel.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; print what would be removed.")
def prune(keep_s: float, keep_failures: bool, dry_run: bool) -> None:
    """Remove old runs and nights, and unused parts of the cache.

    Nothing that a running process uses is removed, nor what was used in the cache within the last hour. The
    latest run and night stay. `vfio-harness history` still knows the nights that are removed.
    """
    found = chain(
        prune_results(paths.results_dir(), keep_s, keep_failures=keep_failures, dry_run=dry_run),
        prune_cache(keep_s, dry_run=dry_run),
        prune_unused([*debian_qemu.fetched(), *image.cached(), *nested.cached()], keep_s, dry_run=dry_run),
    )
    for line in lines(found, "would remove" if dry_run else "removed"):
        click.echo(line)


def lines(found: Iterator[Removed], word: str) -> Iterator[str]:
    """Format each entry as a line, and the sum as the last."""
    count = total = 0
    for entry in found:
        if entry.kept:
            yield f"kept {entry.path}: {entry.kept}"
            continue
        count, total = count + 1, total + entry.size
        yield f"{word} {entry.path}: {_bytes(entry.size)}"
    yield f"{word} {count} directories and files, {_bytes(total)}"


def _bytes(size: int) -> str:
    return f"{size:,} bytes"

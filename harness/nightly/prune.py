# SPDX-License-Identifier: GPL-2.0-only
"""Remove old runs and nights from results/. The history keeps the verdicts of a night that is removed."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harness.host.held import Removed, is_held, size_of, unheld
from harness.report.record import REPORT
from harness.verdict import KERNEL_AT_FAULT

_RUN = re.compile(r"(\d{8}-\d{6})-\w+")
"""The name of a run's directory: its start, in UTC, and a random suffix."""
_NIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})(?:-\d+)?")
"""The name of a night's directory."""
_NIGHT_LOCK = ".lock"
"""The file that `vfio-harness nightly` locks while the night goes on."""
_EXPECTED = ("mutants.json", "auto-mutants.json", "model-mutants.json")
"""A run that has one of these puts bugs into kernels: its failures are no news."""


def prune_results(results: Path, keep_s: float, *, keep_failures: bool, dry_run: bool) -> Iterator[Removed]:
    """Remove the runs and nights that began more than ``keep_s`` seconds ago, and yield each.

    What a process uses stays, and so does what ``latest`` points to. ``keep_failures``: what has a case that blames the
    kernel stays, too. Other files in results/ are never touched. ``dry_run``: remove nothing.
    """
    before = datetime.now(UTC).timestamp() - keep_s
    latest = {_target(results / "latest"), _target(results / "nightly" / "latest")}
    for directory in _old(results, before):
        if directory.resolve() in latest:
            yield Removed(directory, 0, "the latest")
        elif keep_failures and _has_failure(directory):
            yield Removed(directory, 0, "has a failure")
        else:
            yield _remove(directory, dry_run)


def _target(link: Path) -> Path | None:
    return link.resolve() if link.is_symlink() else None


def _old(results: Path, before: float) -> Iterator[Path]:
    for parent, name, form in ((results, _RUN, "%Y%m%d-%H%M%S"), (results / "nightly", _NIGHT, "%Y-%m-%d")):
        for path in sorted(parent.glob("*")):
            found = name.fullmatch(path.name)
            if found and path.is_dir() and not path.is_symlink() and _began(found[1], form) < before:
                yield path


def _began(text: str, form: str) -> float:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except ValueError:  # digits that are no date: not ours
        return float("inf")


def _has_failure(directory: Path) -> bool:
    """Return whether a run record in the directory blames the kernel. One that cannot be read counts as a failure."""
    if any((directory / name).exists() for name in _EXPECTED):
        return False
    return any(map(_blames_the_kernel, directory.rglob(REPORT)))


def _blames_the_kernel(report: Path) -> bool:
    try:
        cases = json.loads(report.read_bytes())["cases"]
        return any(case["verdict"] in KERNEL_AT_FAULT for case in cases)
    except (OSError, ValueError, LookupError, TypeError):
        return True


def _remove(directory: Path, dry_run: bool) -> Removed:
    with unheld(directory) as free:
        if not free or _runs(directory):
            return Removed(directory, 0, "in use")
        size = size_of(directory)
        if not dry_run:
            shutil.rmtree(directory, ignore_errors=True)
    return Removed(directory, size)


def _runs(directory: Path) -> bool:
    """Return whether the night in the directory goes on, or a run below it."""
    try:
        with FileLock(directory / _NIGHT_LOCK, timeout=0) if (directory / _NIGHT_LOCK).exists() else nullcontext():
            return any(is_held(Path(inner)) for inner, _, _ in os.walk(directory) if Path(inner) != directory)
    except Timeout:
        return True

# SPDX-License-Identifier: GPL-2.0-only
"""Several runs in one JUnit or KTAP document."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.verdict import RunRecord

MISS = "MISS"
"""Stands for the verdict of a case that no run has judged."""
NOT_JUDGED = "not judged"
"""The area of the cases that no run has judged: their own is not known."""


@dataclass(frozen=True)
class Part:
    """One of the runs, and the cases that it should have judged."""

    name: str
    record: RunRecord | None
    """None if there is no record."""
    missing: Mapping[str, str]
    """The ids of the cases without a verdict, and why."""

# SPDX-License-Identifier: GPL-2.0-only
"""What ``doctor`` found of one prerequisite."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One prerequisite of the host."""

    name: str
    problem: str = ""
    """What is wrong with it; empty if nothing is."""
    fix: str | None = None
    """The command that installs it."""
    optional: bool = False
    """Whether the harness works without it."""

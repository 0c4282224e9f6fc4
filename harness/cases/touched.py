# SPDX-License-Identifier: GPL-2.0-only
"""Which cases a series concerns, by the files that it touches (vm-configs/touched-files.yaml)."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, load, matches

PATH = paths.VM_CONFIGS / "touched-files.yaml"
ALL = "*"


class Row(Model):
    """Files, and the cases that they concern."""

    paths: Annotated[list[str], Field(min_length=1)]
    """Files, relative to the top of the kernel's source; ``*`` is any text."""
    why: str
    """Why they concern these cases and no other."""
    cases: list[str]
    """Ids of cases; ``*`` is any text."""


class TouchedFiles(Model):
    """The file."""

    files: list[Row]


def concerned(touched: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of the cases that the files concern, as patterns; ``("*",)`` for all cases, empty for none.

    Raises UsageError naming file, line and key.
    """
    rows = load(PATH, TouchedFiles).files
    found: dict[str, None] = {}
    for file in sorted(touched):
        row = next((row for row in rows if matches(row.paths, file)), None)
        found |= dict.fromkeys(row.cases if row else [ALL])
    return (ALL,) if ALL in found else tuple(found)

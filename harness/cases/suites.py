# SPDX-License-Identifier: GPL-2.0-only
"""Suites of cases (vm-configs/suites.yaml)."""

from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, load, matches
from harness.config.loader import nearest
from harness.errors import UsageError

PATH = paths.VM_CONFIGS / "suites.yaml"
DEFAULT_SUITE = "default"


class Suite(Model):
    """``cases``: ids of cases, ``*`` being any text; what an earlier suite has is not of this one."""

    purpose: str
    cases: Annotated[list[str], Field(min_length=1)]

    def names(self, case_id: str) -> bool:
        """Whether the case is one that is named."""
        return matches(self.cases, case_id)


class Suites(Model):
    """The file."""

    suites: dict[str, Suite]


def suites() -> dict[str, Suite]:
    """Every suite, in the file's order. Raises UsageError naming file, line and key."""
    return load(PATH, Suites).suites


def suite_of(case_id: str, known: dict[str, Suite]) -> str:
    """The name of the suite that a case is of. UsageError if no suite names it."""
    for name, suite in known.items():
        if suite.names(case_id):
            return name
    raise UsageError(f"{PATH}: no suite has the case {case_id}")


def unknown(name: str, known: dict[str, Suite]) -> UsageError:
    """What is wrong with a suite's name, with the nearest one that there is."""
    return UsageError(f"no suite {name!r} in {PATH}{nearest(name, known)}", hint=f"suites: {', '.join(known)}")

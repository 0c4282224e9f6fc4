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
MODEL_SUITE = "model"
"""The suite of random programs."""


class Suite(Model):
    """A suite of cases."""

    purpose: str
    cases: Annotated[list[str], Field(min_length=1)]
    """Ids of cases; ``*`` is any text. A case that an earlier suite names does not belong to this one."""

    def names(self, case_id: str) -> bool:
        """Return whether ``cases`` names the case."""
        return matches(self.cases, case_id)


class Suites(Model):
    """vm-configs/suites.yaml."""

    suites: dict[str, Suite]


def suites() -> dict[str, Suite]:
    """Return every suite, in the order of the file. Raises UsageError naming file, line and key."""
    return load(PATH, Suites).suites


def suite_of(case_id: str, known: dict[str, Suite]) -> str:
    """Return the name of the first suite that names the case. Raises UsageError if there is none."""
    for name, suite in known.items():
        if suite.names(case_id):
            return name
    raise UsageError(f"{PATH}: no suite has the case {case_id}")


def unknown(name: str, known: dict[str, Suite]) -> UsageError:
    """Return the error for an unknown suite, with the nearest name that exists."""
    return UsageError(f"no suite {name!r} in {PATH}{nearest(name, known)}", hint=f"suites: {', '.join(known)}")

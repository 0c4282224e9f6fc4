# SPDX-License-Identifier: GPL-2.0-only
"""Read vm-configs/equivalent-mutants.yaml: mutants that no case can notice, each with its reason."""

from collections.abc import Mapping

from harness import paths
from harness.config import Model, load

PATH = paths.VM_CONFIGS / "equivalent-mutants.yaml"

Key = tuple[str, str, str, str]
"""File, function, rule and description of a mutant: what stays when lines move."""


class Equivalent(Model):
    """A mutant that behaves like the original."""

    file: str
    """The file, relative to the source tree."""
    function: str
    """The function that it changes."""
    rule: str
    """The rule that makes it: harness/bugs/rules.py."""
    change: str
    """What stood there and what stands there now, as the record has it."""
    reason: str
    """Why nothing can notice it. It names the line of the kernel that makes it so."""


class _File(Model):
    mutants: list[Equivalent]


def equivalents() -> Mapping[Key, str]:
    """Return the reasons. Raises UsageError naming file, line and key."""
    return {(each.file, each.function, each.rule, each.change): each.reason for each in load(PATH, _File).mutants}

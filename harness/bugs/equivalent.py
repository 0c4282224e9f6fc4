# SPDX-License-Identifier: GPL-2.0-only
"""Read vm-configs/equivalent-mutants.yaml: mutants that no case can notice, each with its reason."""

from collections.abc import Iterable

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
    code: str = ""
    """The source line that it changes, without indentation. Empty: every such change in the function."""
    reason: str
    """Why nothing can notice it. It names the line of the kernel that makes it so."""

    def covers(self, mutant: Key, code: str) -> bool:
        """Return whether this is the entry of a mutant. ``code``: the source line that the mutant changes."""
        same = mutant == (self.file, self.function, self.rule, self.change)
        return same and self.code in ("", code.strip())


def reason_for(entries: Iterable[Equivalent], mutant: Key, code: str) -> str:
    """Return why nothing can notice a mutant; empty if no entry says so. ``code``: see `Equivalent.covers`."""
    return next((entry.reason for entry in entries if entry.covers(mutant, code)), "")


class _File(Model):
    mutants: list[Equivalent]


def equivalents() -> list[Equivalent]:
    """Return the entries. Raises UsageError naming file, line and key."""
    return load(PATH, _File).mutants

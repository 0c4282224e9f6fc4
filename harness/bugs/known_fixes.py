# SPDX-License-Identifier: GPL-2.0-only
"""The known fixes upstream: ``fixed_by`` of the catalogue, and those whose bugs no case shows."""

from collections.abc import Iterable
from dataclasses import dataclass

from harness import paths
from harness.bugs.catalogue import Bug, UpstreamFix, load_bugs
from harness.config import Model, load
from harness.errors import UsageError

PATH = paths.VM_CONFIGS / "unjudged-fixes.yaml"


class UnjudgedFix(UpstreamFix):
    """A fix without a case that shows its bug."""

    why: str
    """Why there is none."""


class _File(Model):
    fixes: list[UnjudgedFix]


@dataclass(frozen=True)
class KnownFix:
    """One fix, with the bugs that it fixed."""

    fix: UpstreamFix
    bugs: tuple[Bug, ...] = ()
    """Entries of the catalogue; empty: no case judges the fix."""
    why: str = ""
    """Why no case judges it."""

    @property
    def pick(self) -> str:
        """What gives the fix to a kernel: the commit, else the catalogue's patch; empty if neither is known."""
        patches = (bug.fix_path for bug in self.bugs if bug.fix_path)
        named = (path.relative_to(paths.TOP) if path.is_relative_to(paths.TOP) else path for path in patches)
        return self.fix.commit or ", ".join(map(str, named))


def known_fixes(bugs: Iterable[Bug] | None = None) -> list[KnownFix]:
    """Return the known fixes, those with cases first. ``bugs``: the catalogue, if it was read already.

    Raises UsageError for a commit that two files describe differently."""
    found: dict[str, KnownFix] = {}
    for bug in load_bugs() if bugs is None else bugs:
        for fix in bug.fixed_by:
            key = fix.commit or fix.subject
            known = found.setdefault(key, KnownFix(fix))
            if known.fix != fix:
                raise UsageError(f"{bug.path}: fixed_by: {known.bugs[0].path.name} describes {fix.commit} differently")
            found[key] = KnownFix(fix, (*known.bugs, bug))
    unjudged = load(PATH, _File).fixes
    for fix in unjudged:
        if fix.commit in found:
            raise UsageError(f"{PATH}: {fix.commit} is also fixed_by of {found[fix.commit].bugs[0].path.name}")
    return [*found.values(), *(KnownFix(fix, why=fix.why) for fix in unjudged)]


def unmerged_fixes(bugs: Iterable[Bug] | None = None) -> list[KnownFix]:
    """Return the catalogue's own patches of bugs that no release has fixed. ``bugs``: as for ``known_fixes``."""
    entries = load_bugs() if bugs is None else bugs
    return [
        KnownFix(UpstreamFix(subject=f"not upstream yet: {bug.title}"), (bug,))
        for bug in entries
        if bug.fix and not bug.fixed_by
    ]

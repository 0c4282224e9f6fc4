# SPDX-License-Identifier: GPL-2.0-only
"""The fixes of bugs that are live in a kernel, so that they hide nothing else from the cases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.bugs.catalogue import Bug, load_bugs
from harness.kernel import Series, SourceChanges
from harness.kernel.source.resolve import release_of
from harness.progress import Emit


def fixable(release: str, bugs: Iterable[Bug] | None = None) -> list[Bug]:
    """Return the bugs of a kernel release for which the catalogue has a fix."""
    return [bug for bug in (load_bugs() if bugs is None else bugs) if bug.fix and bug.is_in(release)]


@dataclass
class Fixes:
    """A ``SourceChange``: the catalogue's fix of each bug that the source has."""

    emit: Emit
    _subjects: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name the change."""
        return "the fixes of known bugs"

    @property
    def patches(self) -> tuple[str, ...]:
        """List the subjects of the fixes that ``files`` applied."""
        return tuple(self._subjects)

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the fixed files. Raises KernelError naming the fix that does not apply."""
        fixes = [Series.load(str(bug.fix_path), self.emit) for bug in fixable(release_of(source))]
        made = SourceChanges(fixes).files(source)
        self._subjects = [subject for fix in fixes for subject in fix.patches]
        return made

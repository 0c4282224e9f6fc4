# SPDX-License-Identifier: GPL-2.0-only
"""A ``SourceChange`` that makes gcov count chosen lines: it marks the statements that they belong to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.bugs.statements import marked, statements


@dataclass(frozen=True)
class CountedLines:
    """Marks the statements of ``lines``, by source file. No line number changes, and no behaviour."""

    lines: Mapping[str, Collection[int]]
    """The numbers of the lines, from 1. A file is counted even if nothing in it takes a mark."""

    @property
    def name(self) -> str:
        """Name the change."""
        return "counters of the changed lines"

    @property
    def patches(self) -> tuple[str, ...]:
        """Return no patch: the code stays the same."""
        return ()

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the marked files."""
        texts = {file: (source / file).read_bytes() for file in self.lines}
        return {file: marked(text, {*statements(text, self.lines[file]).values()}) for file, text in texts.items()}

# SPDX-License-Identifier: GPL-2.0-only
"""Several changes to a kernel's source, applied one after the other."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host.files import overlay
from harness.kernel.model import SourceChange


@dataclass(frozen=True)
class SourceChanges:
    """Several changes as one ``SourceChange``."""

    parts: Sequence[SourceChange]
    """In order: each applies to the source as the ones before it left it."""

    @property
    def name(self) -> str:
        """Join the names of the parts."""
        return " + ".join(part.name for part in self.parts) or "no change"

    @property
    def patches(self) -> tuple[str, ...]:
        """List the patches of all parts."""
        return tuple(patch for part in self.parts for patch in part.patches)

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the changed files after the last part. Raises the errors of the parts."""
        changed: dict[str, bytes | None] = {}
        for part in self.parts:
            with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
                overlay(source, changed, Path(tmp))
                changed |= part.files(Path(tmp) if changed else source)
        return changed

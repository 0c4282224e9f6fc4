# SPDX-License-Identifier: GPL-2.0-only
"""A change to a kernel's source, to be built and tested beside it: a series of patches, or a bug put back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Change(Protocol):
    """What ``KernelSpec`` takes; ``name`` goes into the run record's ``kernel.patches``."""

    @property
    def name(self) -> str:
        """One line for people: a mutation's id, a series' file name."""

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """What the files it touches become, by path relative to ``source``, which it leaves alone; None: removed.

        Raises KernelError or HarnessError if it does not fit this source."""

# SPDX-License-Identifier: GPL-2.0-only
"""A change to a kernel's source, to be built and tested beside it: a series of patches, or a bug put back."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class SourceChange(Protocol):
    """What ``KernelSpec`` takes."""

    @property
    def name(self) -> str:
        """One line for people: a mutation's id, a series' file name."""

    @property
    def patches(self) -> Sequence[str]:
        """What the run record's ``kernel.patches`` lists: a mutation's id, the subjects of a series."""

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """What the files it touches become, by path relative to ``source``, which it leaves alone; None: removed.

        Raises KernelError or HarnessError if it does not fit this source."""


@dataclass(frozen=True)
class SourceChanges:
    """Several changes, each made to what those before it have made of the source."""

    parts: Sequence[SourceChange]

    @property
    def name(self) -> str:
        """All of them."""
        return " + ".join(part.name for part in self.parts)

    @property
    def patches(self) -> tuple[str, ...]:
        """Those of each."""
        return tuple(patch for part in self.parts for patch in part.patches)

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """What becomes of the files in the end. Raises what the parts raise."""
        made: dict[str, bytes | None] = {}
        for part in self.parts:
            with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
                made |= part.files(_with(source, made, Path(tmp)))
        return made


def _with(source: Path, made: Mapping[str, bytes | None], top: Path) -> Path:
    """``source`` with these files: in ``top``, which leads to it by links wherever nothing differs."""
    if not made:
        return source
    inner = {os.path.dirname(name) for name in made}  # noqa: PTH120 - of a name, not of a path
    inner |= {str(parent) for name in inner for parent in Path(name).parents if str(parent) != "."} | {""}
    for directory in sorted(inner):
        (top / directory).mkdir(exist_ok=True)
        for entry in (source / directory).iterdir() if (source / directory).is_dir() else ():
            name = f"{directory}/{entry.name}" if directory else entry.name
            if name not in inner and name not in made:
                (top / name).symlink_to(entry)
    for name, text in made.items():
        if text is not None:
            (top / name).write_bytes(text)
            if (source / name).exists():
                shutil.copymode(source / name, top / name)
    return top

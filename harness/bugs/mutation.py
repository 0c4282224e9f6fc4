# SPDX-License-Identifier: GPL-2.0-only
"""Puts a known bug back into a copy of a kernel's source, and checks that nothing else changes."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from harness.bugs.catalogue import Bug, MutationData
from harness.config import includes
from harness.errors import HarnessError, MissingPrerequisite
from harness.host import process
from harness.kernel.source.difference import patch_text
from harness.kernel.source.resolve import release_of

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_DEFINES = re.compile(r"\s*(?!static_assert)[A-Za-z_][^;=#]*?\b(\w+)\s*\(", re.S)


class MutationError(HarnessError):
    """The mutation no longer applies, or changes other functions than it names. The kernel is not at fault."""


@dataclass(frozen=True)
class Mutation:
    """Puts a bug back into a source tree. A ``SourceChange`` for ``kernel.obtain``."""

    bug: str
    """The id of the bug."""
    data: MutationData
    """How the catalogue puts it back."""

    @classmethod
    def of(cls, bug: Bug) -> "Mutation":
        """Return the mutation of a bug. Raises HarnessError if it has none."""
        if bug.mutation is None:
            raise HarnessError(f"{bug.id} has no mutation: {bug.kernel or 'the kernel itself'} has the bug")
        return cls(bug.id, bug.mutation)

    @property
    def name(self) -> str:
        """The bug's id."""
        return self.bug

    @property
    def patches(self) -> tuple[str]:
        """The bug's id."""
        return (self.bug,)

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the new content of each changed file of the tree ``source``, which is not written to.

        Raises MutationError if the mutation does not apply, or changes other functions than it names."""
        release = release_of(source)
        if not includes(self.data.kernels, release):
            raise MutationError(f"mutation {self.bug} is for kernels {self.data.kernels}, not for {release}")
        with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
            copy = Path(tmp, "source")
            for name in self.data.files:
                if not (source / name).is_file():
                    raise MutationError(f"mutation {self.bug}: {release} has no {name}")
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, copy / name)
            self._apply(copy)
            changed = {name: (copy / name).read_bytes() for name in self.data.files}
        self._check({name: ((source / name).read_bytes(), text) for name, text in changed.items()})
        return changed

    def for_any_release(self) -> "Mutation":
        """Return the mutation without its range of releases: of other kernels it may fit some."""
        return replace(self, data=self.data.model_copy(update={"kernels": ""}))

    def as_patch(self, source: Path) -> str:
        """Return what it changes in a source tree as a unified diff. Raises what ``files`` raises."""
        changed = self.files(source).items()
        diffs = (patch_text(name, (source / name).read_bytes(), text or b"") for name, text in changed)
        return f"{self.bug}, put back\n\n{''.join(diffs)}"

    def _apply(self, copy: Path) -> None:
        if self.data.cocci is not None:
            tool = ["spatch", "--very-quiet", "--in-place", "--no-show-diff", "--sp-file", "mutation.cocci"]
            (copy / "mutation.cocci").write_text(self.data.cocci)
            commands = [[*tool, name] for name in self.data.files]
        else:
            (copy / "mutation.patch").write_text(self.data.patch or "")
            commands = [["patch", "-p1", "--quiet", "--no-backup-if-mismatch", "-i", "mutation.patch"]]
        for command in commands:
            try:
                process.check(command, cwd=copy)
            except MissingPrerequisite:
                raise
            except HarnessError as error:
                raise MutationError(f"mutation {self.bug} does not apply: {error}") from error

    def _check(self, files: Mapping[str, tuple[bytes, bytes]]) -> None:
        changed: set[str] = set()
        for name, (old, new) in files.items():
            if old == new:
                raise MutationError(f"mutation {self.bug} does not apply: it leaves {name} unchanged")
            changed |= changed_functions(old.decode(errors="replace"), new.decode(errors="replace"))
        if changed != {*self.data.functions}:
            named, found = ", ".join(sorted(self.data.functions)), ", ".join(sorted(changed))
            raise MutationError(f"mutation {self.bug} must change {named}, but changes {found}")


def changed_functions(old: str, new: str) -> set[str]:
    """Return the C functions in which two texts differ. A difference outside functions counts as ``(file)``.

    The texts must be in kernel style, with the braces of a function in the first column."""
    olds, news = _functions_by_line(old), _functions_by_line(new)
    matcher = SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    found: set[str] = set()
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag != "equal":
            found |= {*olds[a1:a2], *news[b1:b2]}
    return found - {""}


def _functions_by_line(text: str) -> list[str]:
    """Return the function of each line, from the comment above it to its closing brace.

    Outside functions the name is ``(file)``, or "" for a blank line."""
    lines = text.splitlines()
    owners = ["(file)" if line.strip() else "" for line in lines]
    for brace in (number for number, line in enumerate(lines) if line == "{"):
        head = _head(lines, brace)
        found = _DEFINES.match(_COMMENT.sub("", "\n".join(lines[head:brace])))
        if found:
            end = next((n for n in range(brace, len(lines)) if lines[n].startswith("}")), len(lines) - 1)
            owners[head : end + 1] = [found[1]] * (end + 1 - head)
    return owners


def _head(lines: Sequence[str], brace: int) -> int:
    """Return the index of the first line of the function whose body opens at ``brace``, its comment included."""
    for number in range(brace - 1, -1, -1):
        if not lines[number].strip() or lines[number].startswith(("}", "#")):
            return number + 1
    return 0

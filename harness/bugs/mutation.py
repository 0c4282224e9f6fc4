# SPDX-License-Identifier: GPL-2.0-only
"""Puts a known bug back into a copy of a kernel's source, and checks that it is that bug and nothing else."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from harness.bugs.catalogue import Bug, MutationData
from harness.config import includes
from harness.errors import HarnessError, MissingPrerequisite
from harness.host import process
from harness.kernel.source.resolve import release_of

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_DEFINES = re.compile(r"\s*(?!static_assert)[A-Za-z_][^;=#]*?\b(\w+)\s*\(", re.S)


class MutationError(HarnessError):
    """The catalogue's mutation is at fault, not the kernel: it no longer applies, or changes more than it says."""


@dataclass(frozen=True)
class Mutation:
    """A ``SourceChange`` that ``kernel.obtain`` takes."""

    bug: str
    data: MutationData

    @classmethod
    def of(cls, bug: Bug) -> "Mutation":
        """A bug's mutation. Raises HarnessError if it has none."""
        if bug.mutation is None:
            raise HarnessError(f"{bug.id} has no mutation: it is in {bug.kernel or 'the kernel itself'}")
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
        """What the files become. Raises MutationError if it does not fit ``source``, or changes other functions
        than those it names."""
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
            made = {name: (copy / name).read_bytes() for name in self.data.files}
        self._check({name: ((source / name).read_bytes(), text) for name, text in made.items()})
        return made

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
        differ: set[str] = set()
        for name, (old, new) in files.items():
            if old == new:
                raise MutationError(f"mutation {self.bug} does not apply: {name} stays as it is")
            differ |= changed_functions(old.decode(errors="replace"), new.decode(errors="replace"))
        if differ != {*self.data.functions}:
            wanted, seen = ", ".join(sorted(self.data.functions)), ", ".join(sorted(differ))
            raise MutationError(f"mutation {self.bug} is to change {wanted}, and changes {seen}")


def changed_functions(old: str, new: str) -> set[str]:
    """The C functions (in kernel style: braces in the first column) in which two texts differ; what differs outside
    of all is ``(file)``."""
    olds, news = _by_line(old), _by_line(new)
    matcher = SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    found: set[str] = set()
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag != "equal":
            found |= {*olds[a1:a2], *news[b1:b2]}
    return found - {""}


def _by_line(text: str) -> list[str]:
    """For each line, the function it is in, from its comment or first line to its closing brace; "" between them."""
    lines = text.splitlines()
    owner = ["(file)" if line.strip() else "" for line in lines]
    opened = [number for number, line in enumerate(lines) if line == "{"]
    blank = [-1, *(number for number, line in enumerate(lines) if not line.strip() or line.startswith(("}", "#")))]
    for start in opened:
        head = max(number for number in blank if number < start) + 1
        found = _DEFINES.match(_COMMENT.sub("", "\n".join(lines[head:start])))
        end = next((n for n in range(start, len(lines)) if lines[n].startswith("}")), len(lines) - 1)
        if found:
            owner[head : end + 1] = [found[1]] * (end + 1 - head)
    return owner

# SPDX-License-Identifier: GPL-2.0-only
"""The lines in which two states of a kernel's source differ, with their numbers in both: a series, or since a commit.

The numbers come from the text of both states, so they hold however patch(1) has placed a hunk.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from functools import cached_property
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, UsageError
from harness.kernel.source.git import commit_of, run_git

CONTEXT = 3
"""Unchanged lines around a change."""
_SOURCES = (".c", ".h", ".S", ".rs")
"""What a new file that git does not know yet is named, if it is a source."""


def patch_text(name: str, old: bytes, new: bytes) -> str:
    """Return the unified diff of a file, as patch(1) takes it. ``name``: relative to the top of the source."""
    # Not splitlines(), which also splits at a form feed.
    before, after = (re.findall(r"[^\n]*\n|[^\n]+", text.decode(errors="surrogateescape")) for text in (old, new))
    return "".join(unified_diff(before, after, f"a/{name}", f"b/{name}"))


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff."""

    sign: Literal[" ", "+", "-"]
    old: int | None
    """Its number in the old text; None for a new line."""
    new: int | None
    """Its number in the new text; None for a removed line."""
    text: str


Hunk = tuple[DiffLine, ...]


@dataclass(frozen=True)
class FileDifference:
    """One file in two states."""

    name: str
    """Relative to the top of the source."""
    old: bytes | None
    """None if the file is new."""
    new: bytes | None
    """None if the file is removed."""

    @cached_property
    def hunks(self) -> list[Hunk]:
        """The changes, each with the lines around it."""
        olds, news = _lines(self.old), _lines(self.new)
        return [*_hunks(olds, news)]

    @property
    def changed(self) -> list[int]:
        """The numbers of the new text's lines that the old one lacks."""
        return [line.new for hunk in self.hunks for line in hunk if line.sign == "+" and line.new]

    @property
    def touched(self) -> list[int]:
        """``changed``, and of lines that are only removed the new text's lines around them."""
        return sorted(_touched(self.hunks))


def _touched(hunks: Sequence[Hunk]) -> set[int]:
    found: set[int] = set()
    for hunk in hunks:
        for at, line in enumerate(hunk):
            if line.sign == "+" and line.new:
                found.add(line.new)
            elif line.sign == "-":
                near = [*reversed(hunk[:at])], hunk[at + 1 :]
                found |= {number for each in near for number in [_first_new(each)] if number}
    return found


def _first_new(lines: Sequence[DiffLine]) -> int | None:
    return next((line.new for line in lines if line.new), None)


def _lines(text: bytes | None) -> list[str]:
    lines = (text or b"").decode(errors="replace").split("\n")
    return lines if lines[-1] else lines[:-1]


def _hunks(olds: Sequence[str], news: Sequence[str]) -> Iterator[Hunk]:
    """Yield the hunks. Only the lines between the first and the last change are compared: files are long."""
    start = _common(olds, news)
    ends = _common(olds[start:][::-1], news[start:][::-1])
    first = max(0, start - CONTEXT)
    last = max(0, ends - CONTEXT)
    old, new = olds[first : len(olds) - last], news[first : len(news) - last]
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        hunk: list[DiffLine] = []
        for tag, a1, a2, b1, b2 in group:
            if tag == "equal":
                pairs = zip(range(a1, a2), range(b1, b2), strict=True)
                hunk += [DiffLine(" ", first + a + 1, first + b + 1, old[a]) for a, b in pairs]
                continue
            hunk += [DiffLine("-", first + a + 1, None, old[a]) for a in range(a1, a2)]
            hunk += [DiffLine("+", None, first + b + 1, new[b]) for b in range(b1, b2)]
        yield tuple(hunk)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many lines at the start are the same."""
    same = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        same += 1
    return same


def of_change(
    source: Path, files: Mapping[str, bytes | None], before: Mapping[str, bytes | None]
) -> list[FileDifference]:
    """Return how a change's ``files`` differ from the source, by name. A file of the same text is left out.

    ``before``: files of the source that an earlier change has replaced."""
    found = []
    for name, new in sorted(files.items()):
        original = (source / name).read_bytes() if (source / name).is_file() else None
        old = before.get(name, original)
        if old != new:
            found.append(FileDifference(name, old, new))
    return found


def since(tree: Path, ref: str) -> list[FileDifference]:
    """Return how a git work tree differs from the commit in which it branched off ``ref``, with uncommitted changes.

    A source file that git does not know yet counts, too. Raises UsageError for an unknown ref or no common commit."""
    base = commit_of(tree, ref, f"--since {ref}")
    try:
        fork = run_git(tree, "merge-base", base, "HEAD")[-1]
    except HarnessError:
        raise UsageError(f"--since {ref}: it has no commit in common with HEAD of {tree}") from None
    listed = "\n".join(run_git(tree, "diff", "--no-renames", "--name-only", "-z", fork)).split("\0")
    unknown = "\n".join(run_git(tree, "ls-files", "-z", "--others", "--exclude-standard")).split("\0")
    names = {name for name in listed if name} | {name for name in unknown if name.endswith(_SOURCES)}
    found = []
    for name in sorted(names):
        path = tree / name
        new = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        old = _blob(tree, fork, name)
        if old != new:
            found.append(FileDifference(name, old, new))
    return found


def _blob(tree: Path, commit: str, name: str) -> bytes | None:
    """Return a file of a commit; None if the commit lacks it."""
    if not run_git(tree, "ls-tree", "--name-only", commit, "--", name):
        return None
    lines = run_git(tree, "show", f"{commit}:{name}")
    return "".join(f"{line}\n" for line in lines).encode()

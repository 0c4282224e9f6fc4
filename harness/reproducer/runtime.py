# SPDX-License-Identifier: GPL-2.0-only
"""Choose the parts of the C runtime (guest-images/reproducer) that a program uses.

A part is what stands between blank lines outside braces: a function with its comment, a structure, a group of
constants. A program includes the parts that define a name which it uses, and what those use in turn.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import paths

DIRECTORY = paths.GUEST_IMAGES / "reproducer"

LAST = "99-"
"""How the name of the file begins whose parts call the program."""

_WORD = re.compile(r"(?<![\w.])(?<!->)[A-Za-z_]\w*")
"""A name that is no member of a structure."""
_MEMBER = re.compile(r"\w+((?:\[[^\]]*\])?;)$", re.MULTILINE)
"""The name of a member of a structure, which is no use of what has that name elsewhere."""
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_DEFINED = (
    re.compile(r"^#define (\w+)", re.MULTILINE),
    re.compile(r"^(?:static )?(?:const )?(?:struct|enum) (\w+) \{", re.MULTILINE),
    re.compile(r"^\t([A-Z][A-Z0-9_]+)(?: = [^,]*)?,", re.MULTILINE),  # of an enum
    re.compile(r"^static [^;={(]*?\b(\w+)(?:\[[^\]]*\])? ?[;=]", re.MULTILINE),
    re.compile(r"^static (?:[\w ]+ \*?)(\w+)\(", re.MULTILINE),
    re.compile(r"^int (main)\(", re.MULTILINE),
)


@dataclass(frozen=True)
class Part:
    """A part of the runtime."""

    file: str
    text: str
    defines: frozenset[str]
    uses: frozenset[str]

    @property
    def is_line(self) -> bool:
        """Whether it is a constant of one line."""
        return "\n" not in self.text and self.text.startswith("#define ")

    @classmethod
    def of(cls, file: str, text: str) -> "Part":
        """Find the names in a part."""
        code = _STRING.sub('""', _COMMENT.sub("", text))
        defines = frozenset(name for pattern in _DEFINED for name in pattern.findall(code))
        if code.lstrip().startswith("struct "):
            code = _MEMBER.sub(r"\1", code)
        return cls(file, text, defines, frozenset(_WORD.findall(code)) - defines)


@dataclass(frozen=True)
class Runtime:
    """What a program includes of the runtime."""

    includes: tuple[str, ...]
    """The lines ``#include <...>``, sorted."""
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The parts in the order of the files."""
        return join(self.parts)


def join(parts: Sequence[Part]) -> str:
    """Return the text of parts, with a blank line between those that are more than a line."""
    text = ""
    for before, part in zip((None, *parts), parts, strict=False):
        if before:
            text += "\n" if before.is_line and part.is_line else "\n\n"
        text += part.text
    return text


def all_parts(directory: Path = DIRECTORY) -> list[Part]:
    """Return each part of each file, in their order."""
    return [part for path in sorted(directory.glob("*.c")) for part in _parts(path.name, path.read_text())]


def split(chosen: "Runtime") -> tuple[str, str]:
    """Return the parts that stand before the program, and those after it, which call it."""
    after = [part for part in chosen.parts if part.file.startswith(LAST)]
    before = [part for part in chosen.parts if not part.file.startswith(LAST)]
    return join(before), join(after)


def choose(program: str, directory: Path = DIRECTORY) -> Runtime:
    """Return what a program needs, beginning with the names that it uses and with ``main``."""
    parts = all_parts(directory)
    definitions: dict[str, list[int]] = {}
    for index, part in enumerate(parts):
        for name in part.defines:
            definitions.setdefault(name, []).append(index)
    chosen: set[int] = set()
    wanted = ["main", *_WORD.findall(_STRING.sub('""', _COMMENT.sub("", program)))]
    while wanted:
        for index in definitions.get(wanted.pop(), []):
            if index not in chosen:
                chosen.add(index)
                wanted += parts[index].uses
    used = {parts[index].file for index in chosen}
    includes = _includes((directory / name).read_text() for name in used)
    return Runtime(tuple(includes), tuple(parts[index] for index in sorted(chosen)))


def _includes(texts: Iterable[str]) -> list[str]:
    return sorted({line for text in texts for line in text.splitlines() if line.startswith("#include ")})


def _parts(name: str, text: str) -> Iterator[Part]:
    """Split a file at its blank lines outside braces, without its head: licence, comment and includes."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line or _depth(block):
            block.append(line)
            continue
        if block and all(each.startswith("#define ") and not each.endswith("\\") for each in block):
            yield from (Part.of(name, each) for each in block)
        elif block and not block[0].startswith(("// SPDX", "#include")):
            yield Part.of(name, "\n".join(block))
        block = []


def _depth(block: Iterable[str]) -> int:
    """Return how many braces a block leaves open."""
    code = _STRING.sub("", _COMMENT.sub("", "\n".join(block)))
    return code.count("{") - code.count("}")

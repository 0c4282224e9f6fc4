# SPDX-License-Identifier: GPL-2.0-only
"""Programs: sequences of user actions on one device, as text that can be read, edited and run again.

``buffer0 = export()`` names its result; ``attach(buffer0, "rxe")`` uses it. ``#`` begins a comment.
"""

import ast
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

NAMED = ("device", "buffer", "window", "attachment", "process")
"""Kinds of objects. The name of an object is its kind and a number."""


def is_name(text: str) -> bool:
    """Return whether ``text`` names an object, e.g. ``buffer0``."""
    return text.rstrip("0123456789") in NAMED and text[-1:].isdigit()


@dataclass(frozen=True)
class Call:
    """One action."""

    do: str
    """The action, e.g. ``export``."""
    args: tuple[str, ...] = ()
    """Names of objects, and words."""
    result: str | None = None
    """The name of what it opens. A call that the kernel must refuse has none."""
    closing: str | None = None
    """A buffer whose last fd is closed while this call waits for an importer or a fence."""

    def __str__(self) -> str:
        """The call as a line of a program."""
        given = [each if is_name(each) else f'"{each}"' for each in self.args]
        given += [f"closing={self.closing}"] if self.closing else []
        return (f"{self.result} = " if self.result else "") + f"{self.do}({', '.join(given)})"


Program = tuple[Call, ...]


def as_text(program: Program) -> str:
    """Format a program, one call a line."""
    return "".join(f"{call}\n" for call in program)


def without(program: Program, dropped: Collection[int]) -> Program:
    """Return the program without the calls at these indices, and without the calls that use what those open.

    The objects that are left get new numbers, without gaps.
    """
    names: dict[str, str] = {"device0": "device0"}
    made = {"device": 1}
    kept = []
    for index, call in enumerate(program):
        used = [*filter(is_name, call.args), *filter(None, (call.closing,))]
        if index in dropped or not all(name in names for name in used):
            continue
        result = call.result
        if result:
            kind = result.rstrip("0123456789")
            names[result] = f"{kind}{made.get(kind, 0)}"
            made[kind] = made.get(kind, 0) + 1
        args = tuple(names[each] if is_name(each) else each for each in call.args)
        kept.append(Call(call.do, args, names[result] if result else None, names.get(call.closing or "")))
    return tuple(kept)


def load(path: Path) -> Program:
    """Read a program from a file. Raises UsageError naming the file, and the line of what is not a call."""
    try:
        return parse(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None


_EXAMPLE = 'write one call on each line, e.g. window0 = attach(buffer0, "rxe")'


def parse(text: str, source: str) -> Program:
    """Parse a program. Raises UsageError with ``source`` and the line of what is not a call."""
    try:
        module = ast.parse(text, source)
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line = getattr(error, "lineno", None) or 1
        raise UsageError(f"{source}:{line}: not a program: {error.args[0]}", hint=_EXAMPLE) from None
    return tuple(_call(statement, source) for statement in module.body)


def _call(statement: ast.stmt, source: str) -> Call:
    wrong = UsageError(f"{source}:{statement.lineno}: not a call of a program", hint=_EXAMPLE)
    result: str | None
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
            result = name
        case ast.Expr(value=ast.Call() as call):
            result = None
        case _:
            raise wrong
    closing: str | None
    match call:
        case ast.Call(func=ast.Name(id=do), keywords=[]):
            closing = None
        case ast.Call(func=ast.Name(id=do), keywords=[ast.keyword(arg="closing", value=ast.Name(id=name))]):
            closing = name
        case _:
            raise wrong
    args = []
    for argument in call.args:
        match argument:
            case ast.Name(id=name):
                args.append(name)
            case ast.Constant(value=str() as word):
                args.append(word)
            case _:
                raise wrong
    return Call(do, tuple(args), result, closing)

# SPDX-License-Identifier: GPL-2.0-only
"""The statement of C that each line belongs to, and marks that make gcov count a statement.

gcov counts blocks of machine code, so many statements have no counter: a ``return -EINVAL;`` that shares the function's
last return, or the second line of a call. An empty ``asm volatile`` before a statement keeps it in a block of its own.
It emits no instruction, and it is on the statement's first line, so no line number changes.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tree_sitter import Node

from harness.bugs.rules import definitions

MARK = b'__asm__ volatile(""); '

_STATEMENTS = frozenset(
    f"{kind}_statement"
    for kind in ("expression", "return", "goto", "break", "continue", "if", "for", "while", "do", "switch")
)
_IN_A_BLOCK = ("compound_statement", "case_statement", "labeled_statement")
_DECLARING = (b"DEFINE_", b"DECLARE_", b"LIST_HEAD(", b"CLASS(")
_NO_CODE = frozenset(("{", "}", ";", "else", "comment"))


@dataclass(frozen=True)
class Statement:
    """A statement in a function."""

    function: str
    line: int
    """Its first line, from 1: where its counter is."""
    start: int
    end: int
    """The bytes ``[start, end)`` of the file."""
    alone: bool
    """Whether it is the whole body of an ``if`` or a loop, without braces."""
    markable: bool
    """Whether a mark may stand before it."""


def statements(source: bytes, lines: Collection[int]) -> dict[int, Statement]:
    """Return the innermost statement of each line that has code in a function.

    Lines without: comments, braces, labels, declarations that set nothing, and all that is outside functions. A
    declaration that sets a variable counts as the statement after it."""
    found: dict[int, Statement] = {}
    for function, definition in definitions(source):
        body = definition.child_by_field_name("body")
        rows = {line - 1 for line in lines if line not in found} & {*_rows(definition)}
        if body is None or not rows:
            continue
        for leaf in _leaves(body):
            line = leaf.start_point[0] + 1
            if line - 1 in rows and line not in found and leaf.type not in _NO_CODE:
                node = _statement_of(leaf, body)
                if node is not None:
                    found[line] = _described(function, node, source)
    return found


def function_lines(source: bytes) -> list[tuple[str, range]]:
    """Return each function with its lines, from 1."""
    return [(name, range(node.start_point[0] + 1, node.end_point[0] + 2)) for name, node in definitions(source)]


def marked(source: bytes, chosen: Collection[Statement]) -> bytes:
    """Return the file with a mark before each of the statements that take one."""
    inserted: list[tuple[int, bytes]] = []
    for statement in {each for each in chosen if each.markable}:
        inserted.append((statement.start, b"{ " + MARK if statement.alone else MARK))
        inserted += [(statement.end, b" }")] if statement.alone else []
    text = source
    for at, mark in sorted(inserted, reverse=True):
        text = text[:at] + mark + text[at:]
    return text


def _rows(node: Node) -> range:
    return range(node.start_point[0], node.end_point[0] + 1)


def _leaves(node: Node) -> Iterator[Node]:
    if not node.children:
        yield node
    for child in node.children:
        yield from _leaves(child)


def _statement_of(leaf: Node, body: Node) -> Node | None:
    node: Node | None = leaf
    while node is not None and node != body:
        if node.type == "declaration" or (node.type == "expression_statement" and _declares(node)):
            return _after_declarations(node) if _sets(node) else None
        if node.type in _STATEMENTS:
            return node
        if node.type in ("case_statement", "labeled_statement"):
            return None
        node = node.parent
    return None


def _sets(node: Node) -> bool:
    """Return whether a declaration runs code. A macro that declares may."""
    text = node.text or b""
    return node.type != "declaration" or (b"=" in text and not text.startswith(b"static"))


def _declares(node: Node) -> bool:
    """Return whether what looks like a call is a macro that declares, such as ``DEFINE_WAIT(wait);``."""
    following = node.next_named_sibling
    return (node.text or b"").startswith(_DECLARING) or (following is not None and following.type == "declaration")


def _after_declarations(node: Node) -> Node | None:
    following = node.next_named_sibling
    while following is not None:
        if following.type in _STATEMENTS and not _declares(following):
            return following
        if following.type not in ("declaration", "comment", "expression_statement"):
            return None
        following = following.next_named_sibling
    return None


def _described(function: str, node: Node, source: bytes) -> Statement:
    parent = node.parent.type if node.parent is not None else ""
    before = node.prev_named_sibling
    while before is not None and before.type == "comment":
        before = before.prev_named_sibling
    text = node.text or b""
    # tree-sitter reads `list_for_each_entry(...)` as a statement that lacks its semicolon; what follows is its body.
    is_body = before is not None and before.type in _STATEMENTS and not _ends(before.text or b"")
    in_a_block = parent in _IN_A_BLOCK or parent.startswith("preproc_")
    return Statement(
        function,
        node.start_point[0] + 1,
        node.start_byte,
        node.end_byte,
        alone=is_body or not in_a_block,
        # `fallthrough;` must be the last statement before a label.
        markable=_ends(text) and not text.startswith(b"fallthrough"),
    )


def _ends(text: bytes) -> bool:
    """Return whether the text of a statement is complete."""
    return text.rstrip().endswith((b";", b"}"))

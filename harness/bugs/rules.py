# SPDX-License-Identifier: GPL-2.0-only
"""Mutants by rule: small faults that a kernel developer makes, found in the syntax tree of a C function.

Each rule yields edits of one source file. An edit never changes the number of lines, so that ``__LINE__`` and the line
tables stay the same, and an object file differs only where the code does.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import tree_sitter_c
from tree_sitter import Language, Node, Parser

HANDLER = "UVERBS_HANDLER"
"""The macro that defines a uverbs handler (include/rdma/uverbs_named_ioctl.h); its argument names the method."""

NEXT_ERRNO = {
    "EINVAL": "ENODEV",
    "ENODEV": "EINVAL",
    "EOPNOTSUPP": "EINVAL",
    "EOVERFLOW": "EINVAL",
    "ENOMEM": "EINVAL",
    "EFAULT": "EINVAL",
    "EPERM": "EINVAL",
    "EBUSY": "EINVAL",
    "ENOENT": "EINVAL",
    "ENOTTY": "EINVAL",
    "EAGAIN": "EBUSY",
}
BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
OPERATOR = {"+": "-", "-": "+", "&": "|", "|": "&", "&&": "||", "||": "&&", "==": "!=", "!=": "=="}
ASSIGNMENT = {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|="}
RELEASING = ("unlock", "put", "free", "up_write", "up_read", "detach", "unmap", "unpin", "destroy", "del")
"""Words in the name of a function that gives something back."""


@dataclass(frozen=True)
class Edit:
    """One fault in one file."""

    function: str
    line: int
    """The first line that it changes, from 1."""
    rule: str
    start: int
    end: int
    """The bytes ``[start, end)`` of the file that it replaces."""
    text: bytes

    def apply(self, source: bytes) -> bytes:
        """Return the file with this fault."""
        return source[: self.start] + self.text + source[self.end :]

    def describe(self, source: bytes) -> str:
        """Return one line: what stood there, and what stands there now."""
        before = " ".join(source[self.start : self.end].decode(errors="replace").split())
        after = " ".join(self.text.decode(errors="replace").split())
        return f"{before} -> {after or '(nothing)'}"


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_c.language()))


def functions(source: bytes) -> Mapping[str, Node]:
    """Return the function definitions of a C file by name; of several with one name, the first."""
    found: dict[str, Node] = {}
    for name, node in definitions(source):
        found.setdefault(name, node)
    return found


def definitions(source: bytes) -> list[tuple[str, Node]]:
    """Return every function definition of a C file with its name, in the order of the file."""
    return [*_collect(_parser().parse(source).root_node)]


def _collect(node: Node) -> Iterator[tuple[str, Node]]:
    if node.type == "function_definition":
        yield _name(node), node
        return
    for child in node.children:
        yield from _collect(child)


def _declarators(definition: Node) -> list[Node]:
    """Return a definition's declarators, outermost first; the last is the identifier."""
    found = []
    node = definition.child_by_field_name("declarator")
    while node is not None:
        found.append(node)
        inner = node.named_children[0] if node.type == "parenthesized_declarator" else None
        node = inner or node.child_by_field_name("declarator")
    return found


def _name(definition: Node) -> str:
    declarators = _declarators(definition)
    name = _text(declarators[-1]) if declarators else ""
    if name == HANDLER:
        # UVERBS_HANDLER(METHOD)(arguments): the inner declarator's parameter is the method.
        parameters = declarators[-2].child_by_field_name("parameters")
        name = _text(parameters).strip("()") if parameters is not None else name
    return name


@dataclass(frozen=True)
class Signature:
    """Where a function's definition stands in a file, in bytes, and how it is called."""

    name: str
    start: int
    end: int
    """The definition is ``[start, end)``."""
    body: int
    """Where its body starts."""
    name_start: int
    name_end: int
    """The name is ``[name_start, name_end)``."""
    arguments: tuple[str, ...]
    """The names of its parameters."""
    returns: bool
    """Whether it returns a value."""

    def copy(self, suffix: object) -> str:
        """Name a copy of the function."""
        return f"vfio_harness_{self.name.lower()}_{suffix}"

    def call(self, copy: str) -> str:
        """Return the statement that ends the function by a call of a copy."""
        call = f"{copy}({', '.join(self.arguments)});"
        return f"return {call}" if self.returns else f"{{ {call} return; }}"


def signature(source: bytes, function: str) -> Signature:
    """Return the signature of a function that the file defines. KeyError if it does not."""
    definition = functions(source)[function]
    declarators = _declarators(definition)
    functional = [node for node in declarators if node.type == "function_declarator"]
    # The name of UVERBS_HANDLER(METHOD)(arguments) is the inner declarator.
    name = functional[1] if len(functional) > 1 else declarators[-1]
    parameters = functional[0].child_by_field_name("parameters")
    names = [_declarators(node) for node in parameters.named_children] if parameters is not None else []
    body, result = definition.child_by_field_name("body"), definition.child_by_field_name("type")
    assert body is not None, "a definition has a body"
    pointer = any(node.type == "pointer_declarator" for node in declarators)
    return Signature(
        name=function,
        start=definition.start_byte,
        end=definition.end_byte,
        body=body.start_byte,
        name_start=name.start_byte,
        name_end=name.end_byte,
        arguments=tuple(_text(each[-1]) for each in names if each),
        returns=pointer or result is None or _text(result) != "void",
    )


def edits(source: bytes, function: str) -> list[Edit]:
    """Return every edit that a rule makes of a function, in the order of the source; none if there is no such function.

    An edit that leaves the text as it is, or that a second rule makes as well, is left out."""
    definition = functions(source).get(function)
    body = definition.child_by_field_name("body") if definition is not None else None
    if body is None:
        return []
    found: dict[tuple[int, int, bytes], Edit] = {}
    for node in _walk(body):
        for rule, make in RULES.items():
            for changed, text in make(node):
                start, end = changed
                padded = _same_lines(source[start:end], text)
                if padded != source[start:end]:
                    line = source.count(b"\n", 0, start) + 1
                    found.setdefault((start, end, padded), Edit(function, line, rule, start, end, padded))
    return sorted(found.values(), key=lambda edit: (edit.start, edit.end, edit.rule))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _same_lines(before: bytes, after: bytes) -> bytes:
    """Pad a replacement with the newlines that it lacks."""
    return after + b"\n" * (before.count(b"\n") - after.count(b"\n"))


Span = tuple[int, int]
Change = tuple[Span, bytes]


def _span(node: Node) -> Span:
    return node.start_byte, node.end_byte


def _bytes(node: Node) -> bytes:
    return node.text or b""


def _negate_condition(node: Node) -> Iterator[Change]:
    """``if (C)`` becomes ``if (!(C))``."""
    if node.type == "if_statement" and (condition := node.child_by_field_name("condition")):
        yield _span(condition), b"(!" + _bytes(condition) + b")"


def _never(node: Node) -> Iterator[Change]:
    """``if (C)`` without an else is never taken."""
    condition = node.child_by_field_name("condition") if node.type == "if_statement" else None
    if condition is not None and node.child_by_field_name("alternative") is None:
        yield _span(condition), b"(0 && " + _bytes(condition) + b")"


def _drop_operand(node: Node) -> Iterator[Change]:
    """Of ``A && B`` and ``A || B``, only one is asked."""
    if node.type != "binary_expression" or _operator(node) not in ("&&", "||"):
        return
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is not None and right is not None:
        yield _span(node), _bytes(left)
        yield _span(node), _bytes(right)


def _call(node: Node) -> str:
    """The name of the function that a statement calls without using its result; empty if it does not."""
    if node.type != "expression_statement" or not node.named_children:
        return ""
    call = node.named_children[0]
    callee = call.child_by_field_name("function") if call.type == "call_expression" else None
    return _text(callee) if callee is not None else ""


def _releases(name: str) -> bool:
    return any(word in name for word in RELEASING)


def _drop_call(node: Node) -> Iterator[Change]:
    """A call is missing."""
    if (name := _call(node)) and not _releases(name):
        yield _span(node), b"{ }"


def _drop_release(node: Node) -> Iterator[Change]:
    """An unlock, a put or a free is missing."""
    if (name := _call(node)) and _releases(name):
        yield _span(node), b"{ }"


def _swap_calls(node: Node) -> Iterator[Change]:
    """Two calls in a row change places."""
    following = node.next_named_sibling
    if _call(node) and following is not None and _call(following):
        between = b"\n" * (following.start_point[0] - node.end_point[0])
        yield (node.start_byte, following.end_byte), _bytes(following) + between + _bytes(node)


def _operator(node: Node) -> str:
    operator = node.child_by_field_name("operator")
    return _text(operator) if operator is not None else ""


def _off_by_one(node: Node) -> Iterator[Change]:
    """A bound is off by one, or a ``+ 1`` or ``- 1`` is missing."""
    if node.type != "binary_expression":
        return
    operator, left, right = (node.child_by_field_name(name) for name in ("operator", "left", "right"))
    if operator is None or left is None or right is None:
        return
    if other := BOUNDARY.get(_text(operator)):
        yield _span(operator), other.encode()
    if _text(operator) in ("+", "-") and _text(right) == "1":
        yield _span(node), _bytes(left)


def _wrong_constant(node: Node) -> Iterator[Change]:
    """A truth value is the other one, a number is one more."""
    if node.type in ("true", "false"):
        yield _span(node), b"false" if node.type == "true" else b"true"
    if node.type == "number_literal" and _text(node).isdecimal():
        yield _span(node), str(int(_text(node)) + 1).encode()


def _wrong_errno(node: Node) -> Iterator[Change]:
    """An error is another one."""
    argument = node.child_by_field_name("argument") if node.type == "unary_expression" else None
    if argument is not None and _operator(node) == "-" and (other := NEXT_ERRNO.get(_text(argument))):
        yield _span(argument), other.encode()


def _no_error(node: Node) -> Iterator[Change]:
    """``return -E...`` returns 0."""
    if node.type == "return_statement" and node.named_children:
        value = node.named_children[0]
        if value.type == "unary_expression" and _text(value).startswith("-E"):
            yield _span(value), b"0"


def _wrong_operator(node: Node) -> Iterator[Change]:
    """An operator is its counterpart."""
    table = {"binary_expression": OPERATOR, "assignment_expression": ASSIGNMENT}.get(node.type, {})
    operator = node.child_by_field_name("operator")
    if operator is not None and (other := table.get(_text(operator))):
        yield _span(operator), other.encode()


def _wrong_operand(node: Node) -> Iterator[Change]:
    """Two neighbouring arguments of a call change places."""
    arguments = node.child_by_field_name("arguments") if node.type == "call_expression" else None
    operands = arguments.named_children if arguments is not None else []
    for first, second in itertools.pairwise(operands):
        gap = b", " + b"\n" * (second.start_point[0] - first.end_point[0])
        yield (first.start_byte, second.end_byte), _bytes(second) + gap + _bytes(first)


def _drop_assignment(node: Node) -> Iterator[Change]:
    """A member is not set."""
    if node.type != "expression_statement" or not node.named_children:
        return
    assignment = node.named_children[0]
    left = assignment.child_by_field_name("left") if assignment.type == "assignment_expression" else None
    if left is not None and left.type in ("field_expression", "pointer_expression", "subscript_expression"):
        yield _span(node), b"{ }"


RULES: Mapping[str, Callable[[Node], Iterator[Change]]] = {
    "negate-condition": _negate_condition,
    "never-taken": _never,
    "drop-operand": _drop_operand,
    "drop-call": _drop_call,
    "drop-release": _drop_release,
    "drop-assignment": _drop_assignment,
    "swap-calls": _swap_calls,
    "off-by-one": _off_by_one,
    "wrong-constant": _wrong_constant,
    "wrong-errno": _wrong_errno,
    "no-error": _no_error,
    "wrong-operator": _wrong_operator,
    "wrong-operand": _wrong_operand,
}
"""The rules by name. Each takes a node and yields what it replaces: a span of bytes and its new text."""

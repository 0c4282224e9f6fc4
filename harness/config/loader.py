# SPDX-License-Identifier: GPL-2.0-only
"""Load YAML files into strict pydantic models. A mistake is a UsageError with file, line, key and accepted values.

Scalars are those of YAML 1.2's core schema, without floats. ``on`` is the word that QEMU wants, not True. ``0.1``,
``0123`` and ``0000:01:00.0`` are the text as written. So no value needs quotes to keep its spelling.

PyYAML's nodes have positions; ``_line`` finds one by a key's path. ruamel.yaml records positions too, but takes 1.6 to
2 times as long (59 files: 0.18 s instead of 0.11 s), and needs the same resolvers to keep the spelling of scalars.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import UsageError


class Model(BaseModel):
    """Base of all configuration models: unknown keys are refused, values are not converted, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


M = TypeVar("M", bound=Model)
Loc = Sequence[str | int]
Tree = Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    """A SafeLoader that resolves only null, true/false, decimal integers and ``<<``, and refuses duplicate keys."""

    yaml_implicit_resolvers: ClassVar = {}  # type: ignore[misc]  # the stubs declare an instance attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                if getattr(key, "tag", "") == "tag:yaml.org,2002:merge":
                    continue
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word: quote it", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unchanged(tree: Tree) -> Tree:
    return tree


def _no_mistakes(content: Any) -> Iterable[tuple[Loc, str]]:
    return ()


def load(
    path: Path,
    model: type[M],
    complete: Callable[[Tree], Tree] = _unchanged,
    check: Callable[[M], Iterable[tuple[Loc, str]]] = _no_mistakes,
) -> M:
    """Read ``path`` as one ``model``. Raises UsageError that lists every mistake, one per line.

    ``complete`` adds inherited values to the file's content. The file's own keys and list indices stay, so that
    messages find their lines. ``check`` yields the mistakes that the model cannot see, e.g. a name that the file does
    not define: the place of each, and its text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        tree = loader.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not root or not isinstance(tree, dict):
        raise UsageError(f"{path}: must be a mapping with the keys {_keys(model)}")
    try:
        content = model.model_validate_json(json.dumps(complete(tree)), strict=True)
    except ValidationError as error:
        lines = [_explain(path, root, model, detail) for detail in _without_consequences(error)]
        raise UsageError("\n".join(lines)) from None
    if mistakes := [_line_of(path, root, loc, text) for loc, text in check(content)]:
        raise UsageError("\n".join(mistakes))
    return content


def _without_consequences(error: ValidationError) -> list[ErrorDetails]:
    """Return pydantic's errors without "too short" of a list of which an item is wrong: it counts the right ones."""
    found = error.errors(include_url=False)
    inside = {detail["loc"][:end] for detail in found for end in range(len(detail["loc"]))}
    return [detail for detail in found if detail["type"] != "too_short" or detail["loc"] not in inside]


def _explain(path: Path, root: yaml.Node, model: type[Model], error: ErrorDetails) -> str:
    """Return one line for one of pydantic's errors."""
    loc, text, given = error["loc"], error["msg"], error["input"]
    match error["type"]:
        case "extra_forbidden":
            owner = _model_at(model, loc[:-1])
            word = str(loc[-1])
            text = f"unknown key{nearest(word, owner.model_fields) or '.'} Accepted: {_keys(owner)}"
        case "missing":
            text = "this key is required"
        case "too_short" if not given:
            text = "must not be empty"
        case "value_error":
            text = text.removeprefix("Value error, ")
        case _:
            text = text.replace("an object", "a mapping").replace("a valid array", "a list")  # the words of YAML
            text = f"{text[0].lower()}{text[1:]}, not {json.dumps(given)[:80]}"
            if loc[-1:] == ("[key]",):  # pydantic's name for a key of a mapping, whose text the path has already
                loc, text = loc[:-1], text.replace("input should be", "the key should be", 1)
            if error["type"] == "string_type" and isinstance(given, int):
                text += ": quote it"
    return _line_of(path, root, loc, text)


def _line_of(path: Path, root: yaml.Node, loc: Loc, text: str) -> str:
    where = f"{path}:{_line(root, loc)}" if loc else f"{path}"
    return f"{where}: {_dotted(loc)}{text}"


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _dotted(loc: Loc) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return f"{key.lstrip('.')}: " if key else ""


def _line(node: yaml.Node, loc: Loc) -> int:
    """Return the 1-based line of the deepest node on the way to ``loc``: of a key rather than of its value."""
    line = node.start_mark.line
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if not found:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Return the innermost model on the way to ``loc``."""
    for part in loc:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)

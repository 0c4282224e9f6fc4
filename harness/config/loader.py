# SPDX-License-Identifier: GPL-2.0-only
"""YAML files into strict pydantic models; what is wrong becomes a UsageError with file, line, key and accepted values.

Scalars are read as YAML 1.2's core schema does, less floats: ``on`` is the word QEMU wants and not True, ``0.1``,
``0123`` and ``0000:01:00.0`` are the text as written and no number. So nothing needs quotes to keep its spelling.
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
    """Base of all configuration models: what is not known is refused, nothing is converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


M = TypeVar("M", bound=Model)
Loc = Sequence[str | int]
Tree = Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    """SafeLoader with only null, true/false, plain decimal integers and ``<<`` resolved, and no key given twice."""

    yaml_implicit_resolvers: ClassVar = {}  # type: ignore[misc]  # the stubs have it as an instance's

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
    """``; did you mean 'x'?`` for the likeliest of ``known``, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _as_it_is(tree: Tree) -> Tree:
    return tree


def load(path: Path, model: type[M], complete: Callable[[Tree], Tree] = _as_it_is) -> M:
    """Read ``path`` as one ``model``. Raises UsageError naming every mistake, one per line.

    ``complete`` turns what the file says into all that it means, and leaves keys and indices of the file as they are.
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
        return model.model_validate_json(json.dumps(complete(tree)), strict=True)
    except ValidationError as error:
        lines = [_explain(path, root, model, detail) for detail in error.errors(include_url=False)]
        raise UsageError("\n".join(lines)) from None


def _explain(path: Path, root: yaml.Node, model: type[Model], error: ErrorDetails) -> str:
    loc, said, given = error["loc"], error["msg"], error["input"]
    match error["type"]:
        case "extra_forbidden":
            owner = _model_at(model, loc[:-1])
            word = str(loc[-1])
            said = f"unknown key{nearest(word, owner.model_fields) or '.'} Accepted: {_keys(owner)}"
        case "missing":
            said = "this key is required"
        case "value_error":
            said = said.removeprefix("Value error, ")
        case _:
            said = f"{said[0].lower()}{said[1:]}, not {json.dumps(given)[:80]}"
            if error["type"] == "string_type" and isinstance(given, int):
                said += ": quote it"
    where = f"{path}:{_line(root, loc)}" if loc else f"{path}"
    return f"{where}: {_dotted(loc)}{said}"


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _dotted(loc: Loc) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return f"{text.lstrip('.')}: " if text else ""


def _line(node: yaml.Node, loc: Loc) -> int:
    """The 1-based line of the deepest node on the way to ``loc``; of a key rather than of its value."""
    line = node.start_mark.line
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if not found:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
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

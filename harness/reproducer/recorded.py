# SPDX-License-Identifier: GPL-2.0-only
"""What the JSON of a recording holds besides JSON's own types (harness/session/recording.py)."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ObjectRef:
    """The number of an object in the recording."""

    number: int


def decode(value: dict[str, Any]) -> Any:
    """Decode an object of JSON."""
    if value.keys() == {"$bytes"}:
        return base64.b64decode(value["$bytes"])
    if value.keys() == {"$object"}:
        return ObjectRef(value["$object"])
    return value


def objects(value: Any) -> Iterator[int]:
    """Yield the number of each object in a value."""
    if isinstance(value, ObjectRef):
        yield value.number
    elif isinstance(value, Mapping):
        yield from objects(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from objects(each)

# SPDX-License-Identifier: GPL-2.0-only
"""The host side of the agent's protocol (harness/guest/rpc.py). Input from the guest is not trusted."""

import binascii
import json
from dataclasses import dataclass
from typing import Any

from harness.errors import AgentError, ImporterRefused, KernelErrno
from harness.escape import printable

LINE_LIMIT = 4 << 20
"""Longest line in bytes, as in the agent."""
TEXT_LIMIT = 4000
"""Longest text of the guest in a message, in characters."""


class BadLine(Exception):
    """The guest sent a line that is not a reply."""


@dataclass(frozen=True)
class Ref:
    """The number of an object in the agent."""

    number: int


def request(number: int, on: str | Ref, do: str, args: dict[str, Any], thread: bool) -> bytes:
    """Encode a request. ``args`` may hold bytes, Refs and handles. ValueError if the line is too long."""
    target = on.number if isinstance(on, Ref) else on
    message = {"id": number, "on": target, "do": do, "args": args, "thread": thread}
    line = json.dumps(message, default=_encode).encode() + b"\n"
    if len(line) > LINE_LIMIT:
        raise ValueError(f"{do}: a request of {len(line)} bytes; the agent takes up to {LINE_LIMIT}")
    return line


def reply(line: bytes) -> dict[str, Any]:
    """Decode a reply. Raises BadLine."""
    try:
        message = json.loads(line, object_hook=_decode)
    except (ValueError, TypeError, RecursionError) as exc:
        raise BadLine(f"{exc}: {line[:200]!r}") from None
    if not (isinstance(message, dict) and all(isinstance(message.get(key, 0), int) for key in ("id", "errno"))):
        raise BadLine(f"not a reply: {line[:200]!r}")
    return message


def failure(message: dict[str, Any]) -> Exception | None:
    """Return a reply's error: KernelErrno, ImporterRefused or AgentError; None if it has a result."""
    if "errno" in message:
        return KernelErrno(bounded_text(message.get("call")), message["errno"])
    if "refused" in message:
        return ImporterRefused(bounded_text(message["refused"]))
    if "stuck" in message:
        return AgentError(f"the guest waited in vain: {bounded_text(message['stuck'])}")
    if "defect" in message:
        return AgentError(f"the guest agent failed:\n{bounded_text(message['defect'])}")
    return None


def bounded_text(value: object) -> str:
    """Return the end of a guest's text, printable. The end of a traceback names the error."""
    return printable(str(value)[-TEXT_LIMIT:])


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": binascii.b2a_base64(value, newline=False).decode()}
    ref = value if isinstance(value, Ref) else value.ref
    return {"$object": ref.number}


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() == {"$bytes"}:
        return binascii.a2b_base64(value["$bytes"])
    if value.keys() == {"$object"}:
        return Ref(int(value["$object"]))
    return value

# SPDX-License-Identifier: GPL-2.0-only
"""The agent's lines, seen from the host: see harness/guest/rpc.py. What comes from the guest is not trusted."""

import binascii
import json
from dataclasses import dataclass
from typing import Any

from harness.errors import AgentError, ImporterRefused, KernelErrno
from harness.escape import printable

LINE_LIMIT = 4 << 20  # bytes, as in the agent
TEXT_LIMIT = 4000  # characters of a guest's text that reach a message


class BadLine(Exception):
    """The guest sent something that is no reply."""


@dataclass(frozen=True)
class Ref:
    """An object that lives in the agent."""

    number: int


def request(number: int, on: str | Ref, do: str, args: dict[str, Any], thread: bool) -> bytes:
    """One line. ``args`` may hold bytes, Refs and anything with a ``ref``. ValueError if it is too long."""
    target = on.number if isinstance(on, Ref) else on
    message = {"id": number, "on": target, "do": do, "args": args, "thread": thread}
    line = json.dumps(message, default=_encode).encode() + b"\n"
    if len(line) > LINE_LIMIT:
        raise ValueError(f"{do}: a request of {len(line)} bytes; the agent takes up to {LINE_LIMIT}")
    return line


def reply(line: bytes) -> dict[str, Any]:
    """The reply on a line. Raises BadLine."""
    try:
        message = json.loads(line, object_hook=_decode)
    except (ValueError, TypeError, RecursionError) as exc:
        raise BadLine(f"{exc}: {line[:200]!r}") from None
    if not (isinstance(message, dict) and all(isinstance(message.get(key, 0), int) for key in ("id", "errno"))):
        raise BadLine(f"no reply: {line[:200]!r}")
    return message


def failure(message: dict[str, Any]) -> Exception | None:
    """What a reply says went wrong: KernelErrno, ImporterRefused, AgentError or nothing."""
    if "errno" in message:
        return KernelErrno(shown(message.get("call")), message["errno"])
    if "refused" in message:
        return ImporterRefused(shown(message["refused"]))
    if "defect" in message:
        return AgentError(f"the guest agent failed:\n{shown(message['defect'])}")
    return None


def shown(value: object) -> str:
    """A guest's text, bounded: its end, where a traceback says what was wrong."""
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

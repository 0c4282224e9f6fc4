# SPDX-License-Identifier: GPL-2.0-only
"""A call into the guest as one line of evidence."""

from collections.abc import Mapping
from typing import Any

from harness.session.wire import Ref

MAX_VALUE = 60
"""Characters of one argument or result."""


def call(who: str, do: str, args: Mapping[str, Any], outcome: str) -> str:
    """``DmaBuf.mmap(length=4096): EINVAL``; ``outcome`` as ``answer`` or ``refusal`` words it."""
    given = ", ".join(f"{name}={value(each)}" for name, each in args.items())
    return f"{who}.{do}({given}){outcome}"


def answer(result: object) -> str:
    """How a result reads after the call; a call that gives nothing back just stands there."""
    return "" if result is None else f" = {value(result)}"


def refusal(error: BaseException) -> str:
    """How an error reads after the call."""
    return f": {getattr(error, 'name', '') or str(error).partition(chr(10))[0][:MAX_VALUE]}"


def value(what: object) -> str:
    """One argument or result, short: bytes by their number, handles by their kind."""
    if isinstance(what, bytes | bytearray):
        return what.hex() if len(what) <= 8 else f"<{len(what)} bytes>"
    if hasattr(what, "ref"):
        return type(what).__name__
    if isinstance(what, Ref):
        return f"#{what.number}"
    text = f"{what:#x}" if isinstance(what, int) and not isinstance(what, bool) and what > 9 else repr(what)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."

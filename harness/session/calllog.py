# SPDX-License-Identifier: GPL-2.0-only
"""Format a call into the guest as one line of evidence."""

from collections.abc import Mapping
from typing import Any

from harness.session.wire import Ref

MAX_VALUE = 60
"""Longest text of one argument or result, in characters."""


def call(target: str, do: str, args: Mapping[str, Any], outcome: str) -> str:
    """Format a call: ``DmaBuf.mmap(length=4096): EINVAL``. ``outcome``: from ``result_text`` or ``error_text``."""
    given = ", ".join(f"{name}={value(each)}" for name, each in args.items())
    return f"{target}.{do}({given}){outcome}"


def result_text(result: object) -> str:
    """Format a result as the end of a call's line. None gives no text."""
    return "" if result is None else f" = {value(result)}"


def error_text(error: BaseException) -> str:
    """Format an error as the end of a call's line."""
    return f": {getattr(error, 'name', '') or str(error).partition(chr(10))[0][:MAX_VALUE]}"


def value(item: object) -> str:
    """Format one argument or result: long bytes by their number, handles by their class."""
    if isinstance(item, bytes | bytearray):
        return item.hex() if len(item) <= 8 else f"<{len(item)} bytes>"
    if hasattr(item, "ref"):
        return type(item).__name__
    if isinstance(item, Ref):
        return f"#{item.number}"
    text = f"{item:#x}" if isinstance(item, int) and not isinstance(item, bool) and item > 9 else repr(item)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."

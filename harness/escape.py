# SPDX-License-Identifier: GPL-2.0-only
"""Escape text that the guest or QEMU wrote. Such text reaches terminals and files only through this module.

A guest under test may print anything: escape sequences, invalid UTF-8, a megabyte without a newline.
"""


def printable(text: str, limit: int | None = None) -> str:
    """Escape each character that is not printable, except newline and tab, as ``\\xNN``.

    Such characters garble a terminal, or are not valid XML: C0 and C1 controls, surrogates, bidirectional marks.

    Args:
        text: The text.
        limit: The greatest length of the result, in characters. Longer text is cut and ends with ``...``.
    """
    safe = "".join(char if char in "\n\t" or char.isprintable() else _code(char) for char in text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 3] + "..."


def _code(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def escaped(raw: bytes) -> str:
    """Decode bytes: keep printable ASCII, tab and newline, drop CR, and escape every other byte as ``\\xNN``."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F or byte in b"\n\t" else f"\\x{byte:02x}" for byte in raw if byte != 0x0D
    )

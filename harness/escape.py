# SPDX-License-Identifier: GPL-2.0-only
"""Text that a guest, or QEMU on its behalf, has written: it reaches people, files and terminals through here only."""


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with every control character but newline and tab as ``\\xNN``, cut to ``limit`` characters.

    Also what would garble a terminal or is no XML: C1 controls, surrogates, and the marks that reverse a line.
    """
    safe = "".join(char if char in "\n\t" or char.isprintable() else _code(char) for char in text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 3] + "..."


def _code(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def escaped(raw: bytes) -> str:
    """Bytes as text: printable ASCII, tab and newline as they are; CR dropped; others as ``\\xNN``."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F or byte in b"\n\t" else f"\\x{byte:02x}" for byte in raw if byte != 0x0D
    )

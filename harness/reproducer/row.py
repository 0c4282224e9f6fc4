# SPDX-License-Identifier: GPL-2.0-only
"""A row of the table of calls: the C function that repeats a call of the agent, and how its arguments are written."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

NUMBER = 8
"""The most bytes that a program reads as a number."""
LINE = 20
"""The most bytes of a string in a line."""


@dataclass(frozen=True)
class Arguments:
    """A call's arguments as C, for a row."""

    on: str
    """The object of the call."""
    out: str
    """The object that the call makes."""
    values: Mapping[str, Any]
    """The arguments; the name of the variable for an object."""

    def at(self, name: str) -> str:
        """Return a pointer to an object."""
        return f"&{self.values[name]}"

    def number(self, name: str) -> str:
        """Return an integer or a bool."""
        return number(self.values[name])

    def text(self, name: str) -> str:
        """Return a string literal; NULL for None."""
        return "NULL" if self.values[name] is None else f'"{self.values[name]}"'

    def buffer(self, name: str) -> str:
        """Return a pointer to a dma-buf, or to another file in its place."""
        value = self.values[name]
        is_buffer = isinstance(value, str) and value.startswith(("buffer", "file"))
        return f"&{value}" if is_buffer else f"&(struct buffer){{ {self.fd(name)} }}"

    def fd(self, name: str) -> str:
        """Return the fd of an object, or one that the case chose itself."""
        value = self.values[name]
        return str(value) if isinstance(value, int) else f"{value}.fd"

    def iova(self, name: str) -> str:
        """Return an lvalue with an IOVA; ANY_IOVA for None."""
        value = self.values.get(name)
        return f"&(uint64_t){{ {'ANY_IOVA' if value is None else number(value)} }}"


def number(value: int) -> str:
    """Format an integer or a bool."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value < 10:
        return str(value)
    return f"{value:#x}" + ("ull" if value >= 1 << 31 else "")


def literal(data: bytes) -> str:
    """Format bytes as a string literal."""
    if data.isascii() and data.decode().isprintable() and b'"' not in data and b"\\" not in data:
        return f'"{data.decode()}"'
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


@dataclass(frozen=True)
class Row:
    """How a program repeats a call."""

    code: Callable[[Arguments], str]
    """Returns the C expression: 0 or more, or a negative errno."""
    makes: str = ""
    """The class of the result, if it is an object."""
    imports: bool = False
    """Whether the call gives an importer access to a buffer, which a revoked buffer must refuse."""
    measure: Literal["", "long long"] = ""
    """The C type of the result, if two of them can be compared by their difference."""
    value: Callable[[Any], int | None] | None = None
    """Makes the result of the call as recorded comparable to that of the program."""
    reads: bool = False
    """Whether the result is data of a buffer, which is then more telling than that an importer has access."""
    status: bool = False
    """Whether the call is a transfer that ends with a status, which the importer's device gives."""
    exact: bool = False
    """Whether the case depends on this result, so that the program goes no further with another."""
    before: Callable[[Arguments], Sequence[str]] = lambda _: ()
    """Returns declarations that the expression needs."""


def simple(function: str, *names: str, on: str = "") -> Callable[[Arguments], str]:
    """Return a call with its object, and with these integers."""
    return lambda a: f"{function}({', '.join([f'&{a.on}{on}', *(a.number(name) for name in names)])})"


def on_bdf(function: str, *names: str) -> Callable[[Arguments], str]:
    """Return a call with a device's address, and with these texts."""
    return lambda a: f"{function}({', '.join([a.text('bdf'), *(a.text(name) for name in names)])})"


def milliseconds(seconds: float) -> int:
    """Return a time limit as C has it: at least 1 ms."""
    return max(1, round(seconds * 1000))


def read_value(data: Any) -> int | None:
    """Return data that a call read as a program has it: a little-endian number, or the digest of over 8 bytes."""
    if not isinstance(data, bytes):
        return None
    if len(data) <= NUMBER:
        return int.from_bytes(data, "little")
    return fnv1a(data)


def fnv1a(data: bytes) -> int:
    """Return the hash that ``digest()`` of the program gives: FNV-1a of 64 bits, without the sign."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % (1 << 64)
    return found % (1 << 63)


def load(load: str, digest: str, *names: str, status: bool = False, on: str = "") -> Row:
    """Return the row of a read of ``length`` bytes: ``load`` gives them as a number, ``digest`` as a hash.

    ``names``: the integers that both get. ``on``: the member of the object that they are called with.
    """

    def code(arguments: Arguments) -> str:
        function = load if arguments.values["length"] <= NUMBER else digest
        return simple(function, *names, on=on)(arguments)

    return Row(code, value=read_value, reads=True, status=status)


def data(arguments: Arguments, name: str) -> str:
    """Return an argument with bytes as C: a literal, or the name of an array that ``declare_data`` declares."""
    value: bytes = arguments.values[name]
    return literal(value) if len(value) <= LINE else _array_of(value)


def declare_data(name: str) -> Callable[[Arguments], list[str]]:
    """Return the declaration of an argument with many bytes."""

    def declare(arguments: Arguments) -> list[str]:
        value: bytes = arguments.values[name]
        if len(value) <= LINE:
            return []
        parts = [value[at : at + LINE] for at in range(0, len(value), LINE)]
        return [f"static const char {_array_of(value)}[] =", *(f"\t{_hex(part)}" for part in parts[:-1]),
                f"\t{_hex(parts[-1])};"]  # fmt: skip

    return declare


def _array_of(value: bytes) -> str:
    return f"data_{zlib.crc32(value):08x}"


def _hex(value: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'

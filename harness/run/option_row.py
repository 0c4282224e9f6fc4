# SPDX-License-Identifier: GPL-2.0-only
"""One row of the table of options: what ``--help``, the command line, pytest and make need to know of an option."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

if TYPE_CHECKING:
    import pytest  # takes a tenth of a second, and most commands run no case

PYTEST = "pytest"
"""Names plain pytest, which loads the plugin itself, among the commands."""

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Use:
    """How one command takes an option, where it differs from the others."""

    help: str = ""
    """Replaces the option's help."""
    default: Any = None
    """Replaces the option's default."""
    default_from: str = ""
    """Where the command finds the default itself, e.g. ``the entry's``. The option then has no default."""
    required: bool = False
    """Whether the command requires the option."""


SAME = Use()


@dataclass(frozen=True)
class Option:
    """One row of the table."""

    name: str
    """The field of ``Options``, e.g. ``fail_fast``."""
    kind: Any
    """The field's type without None: str, int, bool, Path or a Literal of the choices."""
    default: Any
    help: str
    """Whole sentences, for ``--help``, the man page and ``pytest --help``."""
    commands: Mapping[str, Use]
    """The commands that take it."""
    flags: tuple[str, ...]
    """As the user types them, e.g. ``-x`` and ``--fail-fast``."""
    metavar: str | None
    make: str | None
    """The Makefile's variable. That of a flag is 1."""
    again: Callable[[Any], bool]
    """Whether the "again:" line of a run names it."""
    draw: Callable[[], Any] | None
    """Makes the default of each run, e.g. a random seed."""
    minimum: int | None
    maximum: int | None
    hidden: bool

    @property
    def long(self) -> str | None:
        """The long flag, e.g. ``--fail-fast``."""
        return next((flag for flag in self.flags if flag.startswith("--")), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted values, if they are few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def click(self, command: str) -> Callable[[Command], Command]:
        """Make the decorator that adds the option to a click command."""
        use = self.commands[command]
        text = use.help or self.help
        attributes: dict[str, Any] = {"hidden": self.hidden, "required": use.required}
        if use.default_from:
            text += f"  [default: {use.default_from}]"
        elif self.kind is bool:
            attributes |= {"is_flag": True}
        elif self.draw:
            attributes |= {"default": self.draw}
        elif (default := use.default or self.default) is not None:
            attributes |= {"default": default, "show_default": True}
        if self.kind is not bool:
            attributes |= {"type": self._click_type(), "metavar": self.metavar}
        return click.option(*self.flags, self.name, help=text, **attributes)

    def _click_type(self) -> Any:
        if self.choices:
            return click.Choice(self.choices)
        if self.kind is int and self.minimum is not None:
            return click.IntRange(self.minimum, self.maximum)
        return click.Path(path_type=Path) if self.kind is Path else self.kind

    def pytest(self, group: "pytest.OptionGroup") -> None:
        """Add the option to pytest."""
        assert self.long, "pytest keeps short flags for itself"
        text = self.help.replace("%", "%%")
        if self.kind is bool:
            group.addoption(self.long, dest=self.name, action="store_true", help=text)
            return
        default = self.draw() if self.draw else self.default
        kind = None if self.choices else self.kind
        group.addoption(
            self.long,
            dest=self.name,
            default=default,
            type=kind,
            choices=self.choices or None,
            metavar=self.metavar,
            help=text,
        )

    def words(self, value: Any) -> list[str]:
        """Write a value as words of a command line."""
        flag = self.long or self.flags[0]
        if self.kind is bool:
            return [flag] if value else []
        return [f"{flag}={value}"] if flag.startswith("--") else [flag, str(value)]


def always(options: object) -> bool:
    """Put the option into every "again:" line."""
    return True


def never(options: object) -> bool:
    """Put the option into no "again:" line."""
    return False


def takes(*names: str, **different: Use) -> dict[str, Use]:
    """Name the commands that take an option; underscores in ``different`` are spaces."""
    return {**dict.fromkeys(names, SAME), **{name.replace("_", " "): use for name, use in different.items()}}


def option(
    default: Any,
    text: str,
    commands: Mapping[str, Use],
    *,
    flags: Sequence[str] = (),
    metavar: str | None = None,
    make: str | None = None,
    again: Callable[[Any], bool] | None = None,
    draw: Callable[[], Any] | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
    hidden: bool = False,
) -> Any:
    """Declare a field of ``Options``; see ``Option`` for the arguments.

    ``flags`` defaults to the long flag of the field's name. An option with a make variable is in "again:" lines.
    """
    again = again or (always if make else never)
    row: dict[str, Any] = {"help": text, "commands": commands, "flags": tuple(flags), "metavar": metavar, "make": make}
    row |= {"again": again, "draw": draw, "minimum": minimum, "maximum": maximum, "hidden": hidden}
    return field(default=default, metadata={"row": row})

# SPDX-License-Identifier: GPL-2.0-only
"""How the user gives the options: on click's command line, in make's variables, and to plain pytest."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import click
import pytest

from harness.errors import UsageError
from harness.run.option_row import PYTEST, Command, Option
from harness.run.options import Options, table

MAKE_ONLY = ("MACHINES", "PYTHON", "SHELL", "VENV", "BIN")
"""Variables that the Makefile itself reads; no option takes them."""

MAKE_ARGUMENTS = {"repro": ("BUG",), "nightly": ("PLAN",), "review": ("SERIES", "SINCE")}
"""Variables that the Makefile passes to a command as an argument."""


def takes_options(
    command: str, options: type[Options] = Options, *, from_make: bool = False
) -> Callable[[Command], Command]:
    """Make the decorator that gives a click command its options of the table.

    ``from_make``: the Makefile calls this command, so it also has the hidden flag ``--from-make``.
    """
    rows = [row for row in table(options) if command in row.commands]

    def decorate(function: Command) -> Command:
        for row in reversed(rows):
            function = row.click(command)(function)
        if from_make:
            function = click.option(
                "--from-make",
                is_flag=True,
                hidden=True,
                is_eager=True,
                expose_value=False,
                callback=lambda ctx, param, value: _read_make_variables(ctx, command, rows) if value else None,
                help="Take options from the make variables in the environment.",
            )(function)
        return function

    return decorate


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given or have a default."""
    return {name: value for name, value in values.items() if value is not None}


def _read_make_variables(ctx: click.Context, command: str, rows: Iterable[Option]) -> None:
    """Make the variables that make has exported the defaults of the command's options."""
    taken = {row.make: row.name for row in rows if row.make}
    check_make_variables(os.environ.get("MAKEFLAGS", ""), command, [*taken])
    found = {name: os.environ[variable] for variable, name in taken.items() if os.environ.get(variable)}
    ctx.default_map = {**(ctx.default_map or {}), **found}


def check_make_variables(makeflags: str, command: str, taken: Iterable[str]) -> None:
    """Refuse a variable of make's command line that is unknown, or that this command does not take.

    ``makeflags``: as make exports it, ``flags -- NAME=value ...`` with blanks in values escaped by a backslash.
    Raises UsageError with the nearest name.
    """
    known = {*taken, *MAKE_ONLY, *MAKE_ARGUMENTS.get(command, ())}
    elsewhere = {*(row.make for row in table() if row.make), *chain(*MAKE_ARGUMENTS.values())}
    _, _, overrides = f" {makeflags}".partition(" -- ")
    for word in re.split(r"(?<!\\)\s+", overrides.strip()):
        name = re.split(r"[:?+!]{0,3}=", word)[0]
        if not name or name in known:
            continue
        if name in elsewhere:
            raise UsageError(
                f"make: `vfio-harness {command}` does not take {name}", hint="make help lists the variables"
            )
        near = difflib.get_close_matches(name, sorted(known), n=1)
        raise UsageError(
            f"make: unknown variable {name}" + (f"; did you mean {near[0]}?" if near else ""),
            hint="make help lists the variables",
        )


def add_pytest_options(parser: pytest.Parser, options: type[Options] = Options) -> None:
    """Add the table's options to pytest."""
    group = parser.getgroup("vfio-harness", "vfio-harness: the kernel under test, and the machine that boots it")
    for row in table(options):
        if PYTEST in row.commands:
            row.pytest(group)


def options_from_pytest(config: pytest.Config) -> Options:
    """Read the options of a plain pytest run."""
    return Options(**{row.name: config.getoption(row.name) for row in table() if PYTEST in row.commands})

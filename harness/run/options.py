# SPDX-License-Identifier: GPL-2.0-only
"""The one table of options: each field of ``Options`` is an option of the command line, of pytest and of make.

A field gives the click option of each command, the option of the pytest plugin, the variable of the Makefile and the
part of the "again: make vm-test ..." lines. To add an option, add a field.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import chain
from pathlib import Path
from random import SystemRandom
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import pytest

from harness import paths
from harness.bugs import Fixes, Mutation, load_bug
from harness.cases.suites import DEFAULT_SUITE
from harness.config import DEFAULT_MACHINE
from harness.errors import UsageError
from harness.kernel import Flavour, Series, SourceChange, SourceChanges
from harness.progress import Emit

PYTEST = "pytest"
"""Names plain pytest, which loads the plugin itself, among the commands."""

MAKE_ONLY = ("MACHINES", "PYTHON", "SHELL", "VENV", "BIN")
"""Variables that the Makefile itself reads; no option takes them."""

MAKE_ARGUMENTS = {"repro": ("BUG",), "nightly": ("PLAN",)}
"""Variables that the Makefile passes to a command as an argument."""

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
    again: "Callable[[Options], bool]"
    """Whether the "again:" line of a run names it."""
    draw: Callable[[], Any] | None
    """Makes the default of each run, e.g. a random seed."""
    minimum: int | None
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
            return click.IntRange(self.minimum)
        return click.Path(path_type=Path) if self.kind is Path else self.kind

    def pytest(self, group: pytest.OptionGroup) -> None:
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


def always(options: "Options") -> bool:
    """Put the option into every "again:" line."""
    return True


def never(options: "Options") -> bool:
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
    again: "Callable[[Options], bool] | None" = None,
    draw: Callable[[], Any] | None = None,
    minimum: int | None = None,
    hidden: bool = False,
) -> Any:
    """Declare a field of ``Options``; see ``Option`` for the arguments.

    ``flags`` defaults to the long flag of the field's name. An option with a make variable is in "again:" lines.
    """
    again = again or (always if make else never)
    row: dict[str, Any] = {"help": text, "commands": commands, "flags": tuple(flags), "metavar": metavar, "make": make}
    row |= {"again": again, "draw": draw, "minimum": minimum, "hidden": hidden}
    return field(default=default, metadata={"row": row})


def new_seed() -> int:
    """Draw a seed for a run that names none."""
    return SystemRandom().randrange(1 << 32)


_BOOT = ("run", "shell", "bench", "doctor", PYTEST)
_CATALOGUE = ("repro", "mutants")


@dataclass(frozen=True)
class Options:
    """The user's choices. None means that the default is found later, e.g. the pinned kernel."""

    machine: str = option(
        DEFAULT_MACHINE,
        "The machine to boot: a name in vm-configs/, or a YAML file.",
        takes(*_BOOT, "bisect", "check", repro=Use(default_from="the entry's")),
        make="MACHINE",
    )
    kernel: str | None = option(
        None,
        "The kernel to test: a source tree, a build directory, a commit (PATH@REF or git:URL@REF) or debian:VERSION.  "
        "[default: the pinned kernel]",
        takes(
            *_BOOT,
            "build",
            "check",
            repro=Use(
                "The kernel: a source tree, a commit or debian:VERSION.",
                default_from="the entry's, else the pinned one",
            ),
            mutants=Use("The kernel: a source tree, a commit or debian:VERSION.", default_from="the pinned kernel"),
            bugs_check=Use("The kernel: a source tree, a commit or debian:VERSION.", default_from="the pinned kernel"),
        ),
        make="KERNEL",
    )
    flavour: Flavour = option(
        "release",
        "The kernel's configuration: release, debug with KASAN and lockdep, or coverage with gcov.",
        takes(
            *_BOOT,
            "build",
            "bisect",
            "check",
            repro=Use(default_from="the entry's"),
            mutants=Use(default_from="the entries'"),
        ),
        make="FLAVOUR",
    )
    accel: Literal["auto", "kvm", "tcg"] = option(
        "auto",
        "QEMU's accelerator. auto uses KVM if a kernel boots under it.",
        takes(*_BOOT, *_CATALOGUE, "bisect", "check"),
        make="ACCEL",
    )
    qemu: str | None = option(
        None,
        "QEMU's binary, or debian:VERSION, e.g. debian:11.1.  [default: $QEMU, or the one in PATH]",
        takes(*_BOOT, *_CATALOGUE, "bisect", "check"),
        make="QEMU",
    )
    series: str | None = option(
        None,
        "Patches to apply to the kernel's source first: an mbox, a directory, a patch, or a message-id for b4.",
        takes(*_BOOT, "build", bisect=Use("Patches to apply to every commit first.")),
        make="SERIES",
    )
    mutation: str | None = option(
        None,
        "Put this bug of vm-configs/bugs back into the kernel.",
        takes(*_BOOT, "build"),
        metavar="ID",
        make="MUTATION",
    )
    fixed: bool = option(
        False,
        "Apply the catalogue's fix of each known bug to the kernel's source first, so that none hides another.",
        takes(*_BOOT, "build", "mutants"),
        metavar="1",
        make="FIXED",
    )
    fail_nth: bool = option(
        False,
        "Run each case with every memory allocation of its calls failing in turn. Needs --flavour debug or coverage.",
        takes("run", PYTEST),
        make="FAIL_NTH",
    )
    gdb: int | None = option(
        None,
        "Open QEMU's gdb stub on 127.0.0.1:PORT.",
        takes("run", "shell", PYTEST),
        metavar="PORT",
    )
    expression: str | None = option(
        None,
        "Run only the cases whose name matches, as with pytest's -k.",
        takes("run", "check", bisect=Use("The cases that judge a commit, as with pytest's -k.", required=True)),
        flags=["-k"],
        metavar="EXPR",
        make="K",
        again=never,  # the line names its case
    )
    suite: str = option(
        DEFAULT_SUITE,
        "Run the cases of this suite of vm-configs/suites.yaml.",
        takes("run", "bisect", "check", PYTEST),
        make="SUITE",
    )
    seed: int | None = option(
        None,
        "The random seed of the suites stress and model.  [default: a new one for each run]",
        takes("run", "bisect", "check", PYTEST),
        make="SEED",
        again=lambda options: options.suite != DEFAULT_SUITE,
        draw=new_seed,
    )
    program: Path | None = option(
        None,
        "With --suite model: run exactly the program in this file, instead of random ones.",
        takes("run", PYTEST),
        metavar="FILE",
        make="PROGRAM",
        again=never,  # the line names the program that failed
    )
    focus: bool = option(
        False,
        "Run only the cases that cover the machine's focus: rows of the contract.",
        takes("run", PYTEST),
    )
    shard: str | None = option(
        None,
        "Run only part I of N of the cases, balanced by their durations in results/latest. `merge` joins the parts.",
        takes("run"),
        metavar="I/N",
    )
    fail_fast: bool = option(
        False,
        "Stop at the first FAIL, SPLAT, HANG, CRASH or ERROR.",
        takes("run", PYTEST),
        flags=["-x", "--fail-fast"],
    )
    verbose: bool = option(
        False,
        "List the cases that passed, too, in the closing table.",
        takes("run"),
        flags=["-v", "--verbose"],
    )
    jobs: int | None = option(
        None,
        "The number of machines that run in parallel.  [default: by processors and cases, at most 8]",
        takes("run", mutants=Use("The number of mutants that run in parallel.", default=2)),
        metavar="N",
        make="JOBS",
        again=never,
        minimum=1,
    )
    base_vs_series: bool = option(
        False,
        "Run the kernel with and without --series, and report what differs.",
        takes("run"),
    )
    bisect: bool = option(
        False,
        "Use the exit codes that `git bisect run` expects.",
        takes("run", PYTEST),
    )
    show_command: bool = option(
        False,
        "Print QEMU's command line and exit.",
        takes("run"),
    )
    fail_after: int | None = option(
        None,
        "Stop after this many cases with FAIL, SPLAT, HANG, CRASH or ERROR.",
        takes("run"),
        metavar="N",
        hidden=True,
    )
    no_counters: bool = option(
        False,
        "Do not keep the counters of a kernel with gcov.",
        takes("run"),
        hidden=True,
    )
    run_directory: Path | None = option(
        None,
        "Write the results into this directory, instead of a new one in results/.",
        takes("run"),
        hidden=True,
    )
    error_file: Path | None = option(
        None,
        "If an error ends the run before its first case, write it to this file as JSON.",
        takes("run"),
        hidden=True,
    )

    def change(self, emit: Emit) -> SourceChange | None:
        """Load the change of the kernel's source: the fixes, the series, then the mutation; None without any.

        Raises what ``Series.load`` and the catalogue raise.
        """
        parts: list[SourceChange] = [Fixes(emit)] if self.fixed else []
        parts += [Series.load(self.series, emit)] if self.series else []
        parts += [Mutation.of(load_bug(self.mutation))] if self.mutation else []
        return SourceChanges(parts) if len(parts) > 1 else next(iter(parts), None)

    def arguments(self) -> list[str]:
        """Write the options as arguments of ``vfio-harness run``; defaults are left out."""
        chosen = ((row, getattr(self, row.name)) for row in table(type(self)) if "run" in row.commands)
        return [word for row, value in chosen if value != row.default for word in row.words(value)]

    def make_variables(self) -> dict[str, str]:
        """Return the variables of ``make vm-test`` that repeat this run; defaults are left out."""
        rows = (row for row in table(type(self)) if row.make and row.again(self))
        chosen = {row.make: getattr(self, row.name) for row in rows if getattr(self, row.name) != row.default}
        return {str(name): "1" if value is True else str(value) for name, value in chosen.items()}

    def again_settings(self) -> dict[str, str]:
        """Return the settings that an "again:" line repeats: make's variables, or flags where there is no Makefile."""
        variables = self.make_variables()
        if not paths.INSTALLED:
            return variables
        rows = {row.make: row for row in table(type(self)) if row.make in variables}
        flags = {str(make): row.long or row.flags[0] for make, row in rows.items()}
        return {flags[make]: "" if rows[make].kind is bool else value for make, value in variables.items()}


def table(options: type[Options] = Options) -> list[Option]:
    """Read the table off the fields of ``Options``, or of a class derived from it."""
    hints = get_type_hints(options)
    rows = []
    for each in fields(options):
        row = dict(each.metadata["row"])
        row["flags"] = row["flags"] or (f"--{each.name.replace('_', '-')}",)
        assert each.default is not MISSING
        rows.append(Option(name=each.name, kind=_without_none(hints[each.name]), default=each.default, **row))
    return rows


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [part for part in get_args(hint) if part is not NoneType]
    return hint


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

# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness new``: write a commented template of a case, a machine or a bug."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import click

from harness import paths
from harness.errors import HarnessError, UsageError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""The ids of machines and bugs. For a case, ``-`` becomes ``_``."""
MAX_NAME = 30
"""Characters. Ids of machines are this long at most."""


@dataclass(frozen=True)
class Kind:
    """Something that ``new`` can write."""

    template: str
    """The file in harness/templates."""
    directory: Callable[[], Path]
    """Where the new file goes."""
    file: str
    """Its name, with ``$name`` and ``$function`` replaced."""
    next_steps: tuple[str, ...]
    """The commands to type next, with the same replaced."""
    installed_steps: tuple[str, ...]
    """The same where the harness was installed from a wheel."""


def _or_here(directory: Path) -> Path:
    """Return the directory of a checkout; the current one if a wheel owns it: its files go with an upgrade."""
    return Path.cwd() if paths.INSTALLED and directory.is_relative_to(paths.TOP) else directory


KINDS = {
    "case": Kind(
        "case.py.in",
        lambda: _or_here(paths.VM_CASES),
        "test_$function.py",
        ("make vm-test K=test_$function", ".venv/bin/vfio-harness coverage"),
        ("vfio-harness run test_$function.py",),
    ),
    "machine": Kind(
        "machine.yaml.in",
        lambda: _or_here(paths.VM_CONFIGS),
        "$name.yaml",
        ("make vm-test MACHINE=$name K=doorbell", ".venv/bin/vfio-harness machines"),
        ("vfio-harness run --machine ./$name.yaml -k doorbell",),
    ),
    "bug": Kind(
        "bug.yaml.in",
        lambda: _or_here(paths.bugs_dir()),
        "$name.yaml",
        (".venv/bin/vfio-harness bugs check $name", "make repro BUG=$name"),
        ("export VFIO_HARNESS_BUGS=$directory", "vfio-harness bugs check $name", "vfio-harness repro $name"),
    ),
}


@dataclass(frozen=True)
class Created:
    """A file that ``create`` wrote."""

    path: Path
    """The file."""
    next_steps: tuple[str, ...]
    """The commands to type next."""

    def __str__(self) -> str:
        """Name the file and the next steps, for the terminal."""
        return "\n".join([f"wrote {self.path}", *(f"next: {step}" for step in self.next_steps)])


def create(kind: str, name: str) -> Created:
    """Write the template of a ``kind`` (a key of ``KINDS``) under its new name.

    Raises:
        UsageError: The name is malformed, or the file exists.
        HarnessError: The file cannot be written.
    """
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            f"{name!r} is not a name for a {kind}: use a lowercase letter first, then lowercase letters, digits "
            f"and single hyphens, {MAX_NAME} characters at most"
        )
    chosen = KINDS[kind]
    directory = chosen.directory()
    words = {"name": name, "function": name.replace("-", "_"), "directory": str(directory)}
    path = directory / Template(chosen.file).substitute(words)
    text = (resources.files("harness") / "templates" / chosen.template).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(words))
    except FileExistsError:
        raise UsageError(f"{path} exists: choose another name") from None
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}") from None
    steps = chosen.installed_steps if paths.INSTALLED else chosen.next_steps
    return Created(path, tuple(Template(step).substitute(words) for step in steps))


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
def new(kind: str, name: str) -> None:
    """Write a commented template of a case, machine or bug.

    It works unchanged: the case runs, the machine boots, the bug can be put back. Change it step by step.
    """
    click.echo(create(kind, name))

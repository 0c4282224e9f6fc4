# SPDX-License-Identifier: GPL-2.0-only
"""The directory of a run, ``results/<run id>/``, with the run record in all its forms; and ``results/latest``."""

import gc
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from harness.errors import HarnessError, UsageError
from harness.host.files import write_atomically
from harness.host.held import hold
from harness.report import html, junit, ktap
from harness.verdict import SCHEMA, RunRecord

REPORT = "report.json"

Model = TypeVar("Model", bound=BaseModel)


_WRONG = {
    "extra_forbidden": "unknown field, perhaps of a newer vfio-harness",
    "missing": "this field is missing; the file is damaged, or no record of vfio-harness",
}
"""What is said of pydantic's types of errors; its own text of the others."""


class _Header(BaseModel):
    """The part of a record that says how to read the rest."""

    schema_: str = Field(alias="schema")


def to_json(record: RunRecord) -> str:
    """Return ``report.json``. docs/design.md documents it."""
    return record.model_dump_json(by_alias=True, indent=2) + "\n"


def load(path: Path) -> RunRecord:
    """Read the run record in ``path``, a ``report.json`` or its directory. Older records are read too.

    Raises UsageError, with the reason in one line, if the file is missing or is not a run record of a known schema."""
    file = path / REPORT if path.is_dir() else path
    return read_record(file, RunRecord, SCHEMA, hint=f"name a run directory, such as {_run_below(path)}")


def _run_below(path: Path) -> Path | str:
    """Return a run below the directory of a night, of a cell or of results, as an example; else the usual one."""
    for pattern in ("latest", "*", "cells/*/*", "*/cells/*/*"):
        if found := next(path.glob(f"{pattern}/{REPORT}"), None):
            return found.parent
    return "results/latest"


def read_record(file: Path, model: type[Model], schema: str, *, hint: str) -> Model:
    """Read a record of any kind. ``hint``: what to name instead of a file that is missing.

    Raises UsageError, with the reason in one line, if the file is missing or is not of this schema."""
    try:
        data = file.read_bytes()
        found = _Header.model_validate_json(data).schema_
        if found != schema:
            raise UsageError(f"{file}: the schema is {found!r}, but only {schema!r} can be read")
        with _no_garbage_collection():
            return model.model_validate_json(data)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint=hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}." for part in first["loc"])[:-1]
        said = _WRONG.get(first["type"]) or f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise UsageError(f"{file}: {where}: {said}" if where else f"{file}: {said}") from None


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the collector of reference cycles. A record has none, and visiting its objects doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def write_report(path: Path, text: str) -> None:
    """Write a file of the results directory atomically. Raises HarnessError where the host's disk refuses it."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}", hint="make room, or set VFIO_HARNESS_RESULTS") from None


class RunDirectory:
    """The directory of one run. Runs in parallel each get their own.

    ``run_id`` is its name: the time in UTC and a random suffix. ``started`` is that time in ISO 8601.

    With ``own``, the directory is that one instead, and no symlink is made."""

    def __init__(self, results: Path, own: Path | None = None) -> None:
        now = datetime.now(UTC)
        self.started = now.isoformat(timespec="seconds")
        self._own = own is not None
        try:
            if own:
                own.mkdir(parents=True, exist_ok=True)
                self.path = own.absolute()
            else:
                results.mkdir(parents=True, exist_ok=True)
                self.path = Path(tempfile.mkdtemp(prefix=f"{now:%Y%m%d-%H%M%S}-", dir=results))
                self.path.chmod(0o755)
            hold(self.path, self)  # `vfio-harness prune` leaves it alone while this process and its workers run
        except OSError as error:
            raise HarnessError(f"{own or results}: {error.strerror}", hint="set VFIO_HARNESS_RESULTS") from None
        self.run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}" if own else self.path.name

    def write(self, record: RunRecord, settings: Mapping[str, str], command: str = "run") -> None:
        """Write the record in all its forms, then point ``latest`` here.

        ``settings`` and ``command``: see ``repeat_command``.
        """
        write_report(self.path / "junit.xml", junit.render(record))
        write_report(self.path / "report.ktap", ktap.render(record))
        write_report(self.path / "report.html", html.render(record, settings, self.path, command))
        write_report(self.path / REPORT, to_json(record))
        self.link_as("latest")

    def link_as(self, name: str) -> None:
        """Make the symlink ``name``, next to the directory, point here. Raises HarnessError if it is not a symlink."""
        if self._own:
            return
        point(self.path.parent / name, self.path)


def point(link: Path, directory: Path) -> None:
    """Make the symlink ``link`` point to ``directory``, next to it. Raises HarnessError if it is not a symlink."""
    new = link.with_name(f".{link.name}.{directory.name}")
    try:
        new.unlink(missing_ok=True)
        new.symlink_to(directory.name)
        new.replace(link)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise HarnessError(f"{link}: {error.strerror}", hint=f"remove {link}: it must be a symlink") from None

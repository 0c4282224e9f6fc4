# SPDX-License-Identifier: GPL-2.0-only
"""The run directory: ``results/<run id>/`` with the run record in all its forms, and ``results/latest``."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from harness.errors import HarnessError, UsageError
from harness.host.files import write_atomically
from harness.report import html, junit, ktap
from harness.verdict import RunRecord

REPORT = "report.json"


def to_json(record: RunRecord) -> str:
    """``report.json``, as docs/design.md has it."""
    return record.model_dump_json(by_alias=True, indent=2) + "\n"


def load(path: Path) -> RunRecord:
    """The record in ``path``, a ``report.json`` or its directory. UsageError if it is none."""
    file = path / REPORT if path.is_dir() else path
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="name a run directory, such as results/latest") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{file}: {where}: {first['msg']}") from None


def write_report(path: Path, text: str) -> None:
    """Write a file of the results directory atomically. Raises HarnessError where the host's disk refuses it."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}", hint="make room, or set VFIO_HARNESS_RESULTS") from None


class RunDirectory:
    """A directory of this run's own, whatever else runs. ``run_id`` is its name: UTC time, and what makes it unique."""

    def __init__(self, results: Path) -> None:
        now = datetime.now(UTC)
        self.started = now.isoformat(timespec="seconds")
        try:
            results.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=f"{now:%Y%m%d-%H%M%S}-", dir=results))
            self.path.chmod(0o755)
        except OSError as error:
            raise HarnessError(f"{results}: {error.strerror}", hint="set VFIO_HARNESS_RESULTS") from None
        self.run_id = self.path.name

    def write(self, record: RunRecord, settings: Mapping[str, str]) -> None:
        """Write the record in all its forms, then point ``latest`` here. ``settings``: see ``repeat_command``."""
        write_report(self.path / "junit.xml", junit.render(record))
        write_report(self.path / "report.ktap", ktap.render(record))
        write_report(self.path / "report.html", html.render(record, settings))
        write_report(self.path / REPORT, to_json(record))
        self.link_as("latest")

    def link_as(self, name: str) -> None:
        """Make the link of that name, beside it, lead here. HarnessError if something else is in its place."""
        latest = self.path.parent / name
        link = self.path.parent / f".{name}.{self.run_id}"
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(self.run_id)
            link.replace(latest)
        except OSError as error:
            link.unlink(missing_ok=True)
            raise HarnessError(f"{latest}: {error.strerror}", hint=f"remove {latest}: it is to be a link") from None

# SPDX-License-Identifier: GPL-2.0-only
"""Read what the emulated machine has written: a tar archive on a disk of fixed size. Nothing of it is trusted."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.host.tar import unpack_files
from harness.report import record
from harness.verdict import RunRecord

DISK = 256 << 20
"""Bytes of the disk: several times what the runs of a whole suite write."""
MOST_FILES = 20_000
MOST_REPORT = 64 << 20
"""Bytes of a report.json that is read: a hundred times that of the default suite."""
SUBJECT = "the outer machine's results"
EXIT_CODE = "exit-code"


@dataclass(frozen=True)
class Ended:
    """The end of one run inside."""

    code: int
    """Its exit code."""
    record: RunRecord | None
    """None if it ended before its first case."""


def unpack(disk: Path, directory: Path) -> None:
    """Unpack the archive on ``disk`` into ``directory``.

    Raises HarnessError if it is damaged, holds anything but files, or unpacks to more than the disk holds.
    """
    with disk.open("rb") as archive:
        unpack_files(archive, directory, SUBJECT, most_bytes=DISK, most_files=MOST_FILES)


def read(directory: Path) -> Ended | None:
    """Read the results of a run; None if it never started. Raises HarnessError if they are damaged."""
    try:
        code = int((directory / EXIT_CODE).read_text(encoding="ascii")[:8])
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise HarnessError(f"{directory / EXIT_CODE}: not an exit code") from None
    report = directory / record.REPORT
    if not report.is_file():
        return Ended(code, None)
    if report.stat().st_size > MOST_REPORT:
        raise HarnessError(f"{report}: larger than {MOST_REPORT >> 20} MiB")
    return Ended(code, record.load(report))

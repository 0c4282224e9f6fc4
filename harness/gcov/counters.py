# SPDX-License-Identifier: GPL-2.0-only
"""Keep the counters that the kernel hands out after each case, and what it takes to read them later.

A run on a kernel of FLAVOUR=coverage has a directory ``coverage/``: ``notes.zip`` with gcov's notes (.gcno) and the
source of each file that is counted, and one archive of counters (.gcda) per case. So a run can be read after its
kernel's build is gone.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.errors import HarnessError

DIRECTORY = "coverage"
NOTES = "notes.zip"
CASE_ID, MACHINE, FAIL_NTH = "case", "machine", "fail-nth"
"""Members of an archive of a case: its id, its machine, and a mark that is there in runs with --fail-nth."""


class Reached(NamedTuple):
    """A case on a machine."""

    id: str
    """The id of the case."""
    machine: str
    """The machine's name."""
    fail_nth: bool = False
    """Whether its allocations failed: a run with ``--fail-nth``."""

    @property
    def place(self) -> str:
        """Where it ran."""
        return place_name(self.machine, fail_nth=self.fail_nth)


def place_name(machine: str, *, fail_nth: bool) -> str:
    """Name a machine, and whether allocations fail there."""
    return f"{machine} with --fail-nth" if fail_nth else machine


def counted_files(build_dir: Path, source_dir: Path) -> list[str]:
    """Return the source files whose objects have counters: those of the kernel's path, and what a change touches.

    Raises HarnessError if the build has none."""
    notes = (path.relative_to(build_dir).with_suffix(".c") for path in build_dir.rglob("*.gcno"))
    found = sorted(str(name) for name in notes if (source_dir / name).is_file())
    if not found:
        raise HarnessError(f"{build_dir} has no .gcno file of the kernel's sources: not a coverage build?")
    return found


def save_notes(run: Path, files: Iterable[str], build_dir: Path, source_dir: Path) -> None:
    """Copy notes and source of each of ``files`` into ``run``."""
    directory = run / DIRECTORY
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / NOTES, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            archive.write(build_dir / _sibling(name, ".gcno"), _sibling(name, ".gcno"))
            archive.write(source_dir / name, name)


def save_case(run: Path, case: Reached, counters: Mapping[str, bytes], files: Iterable[str]) -> None:
    """Keep one case's counters of ``files``. ``counters``: .gcda by path, as the guest's debugfs names them."""
    wanted = [_sibling(name, ".gcda") for name in files]
    digest = hashlib.sha256(case.id.encode()).hexdigest()[:16]
    with zipfile.ZipFile(run / DIRECTORY / f"{digest}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CASE_ID, case.id)
        archive.writestr(MACHINE, case.machine)
        if case.fail_nth:
            archive.writestr(FAIL_NTH, "")
        for name in wanted:
            data = next((data for full, data in counters.items() if full.endswith(f"/{name}")), None)
            if data is not None:
                archive.writestr(name, data)


def cases(run: Path) -> Iterator[tuple[Reached, Path]]:
    """Yield each case and its archive."""
    for path in sorted((run / DIRECTORY).glob("*.zip")):
        if path.name != NOTES:
            with zipfile.ZipFile(path) as archive:
                case_id, machine = (archive.read(name).decode() for name in (CASE_ID, MACHINE))
                case = Reached(case_id, machine, FAIL_NTH in archive.namelist())
            yield case, path


def _sibling(source: str, suffix: str) -> str:
    return source.removesuffix(".c") + suffix

# SPDX-License-Identifier: GPL-2.0-only
"""Removes what a make that was killed has left half-written, so that the next make builds it again.

Kbuild builds ``x.o`` and then has fixdep write ``.x.o.cmd``: the command, and the files that ``x.o`` depends on
(scripts/Kbuild.include, ``cmd_and_fixdep``). A make that is killed with its children removes neither. A cut ``.cmd``
stops each later make with a syntax error, or hides that a header has changed. A cut ``x.o`` is newer than its source.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

MARK = "harness-make-runs"
"""The file of a build directory that exists while make runs there. Its date is the start of make."""


@contextmanager
def finished(directory: Path) -> Iterator[None]:
    """Run make in the body. If the last one in ``directory`` did not end well, first remove what it left half-written.

    It ended well if it removed its mark. A build without a vmlinux never did, though an older harness left no mark.
    """
    mark = directory / MARK
    if mark.exists():
        remove_half_written(directory, mark.stat().st_mtime)
    elif not (directory / "vmlinux").exists():
        remove_half_written(directory, 0)
    mark.touch()
    yield
    mark.unlink()


def remove_half_written(directory: Path, since: float) -> None:
    """Remove each ``.cmd`` file that is cut, and each target newer than ``since`` that is newer than its ``.cmd``."""
    for top, _, names in os.walk(directory):
        for name in names:
            if name.startswith(".") and name.endswith(".cmd"):
                command = Path(top, name)
                target = Path(top, name[1 : -len(".cmd")])
                if _is_cut(command.read_bytes()):
                    _remove(command)
                elif target.is_file() and target.stat().st_mtime > max(since, command.stat().st_mtime):
                    _remove(target)


def _is_cut(content: bytes) -> bool:
    """Return whether fixdep's rule ``$(deps_x.o):`` is missing, or, in a file without it, the end of the line."""
    if b"\ndeps_" in content or b"\nsource_" in content:
        return b"\n$(deps_" not in content or not content.endswith(b"\n")
    return not content.endswith(b"\n")


def _remove(path: Path) -> None:
    log.debug("kernel build: removing %s, which an earlier make left half-written", path)
    path.unlink()

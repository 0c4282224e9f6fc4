# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tree's own scripts for patches: checkpatch.pl, and get_maintainer.pl for the addresses of a mail."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.host import process
from harness.host.packages import require

_CHECKPATCH = "scripts/checkpatch.pl"
_GET_MAINTAINER = "scripts/get_maintainer.pl"
_RESPONSIBLE = ("maintainer", "supporter")
"""The roles that a mail is addressed to; reviewers and lists get a copy (get_maintainer.pl, get_maintainer_role())."""
_COMPLAINT = re.compile(r"^(?:ERROR|WARNING)\b")
_ADDRESS = re.compile(r"^(?P<who>.*?\S)\s+\((?P<role>[a-z ]+)(?::.*)?\)$")


@dataclass(frozen=True)
class Recipients:
    """Whom a mail goes to."""

    to: tuple[str, ...]
    """The maintainers."""
    cc: tuple[str, ...]
    """Reviewers and mailing lists."""


def checkpatch(source: Path, patch: Path) -> list[str]:
    """Return the complaints of the tree's checkpatch.pl about a patch, one line each; empty if it passes.

    Raises UsageError for a source without the script."""
    lines: list[str] = []
    options = ["--no-tree", "--color=never", "--no-summary"]
    if not os.path.lexists(source / ".git"):  # it looks up commits there
        options.append("--ignore=UNKNOWN_COMMIT_ID")
    command: list[str | Path] = [require("perl"), _script(source, _CHECKPATCH), *options, patch]
    process.run(command, cwd=source, on_line=lines.append)  # it fails if it complains
    return [line for line in lines if _COMPLAINT.match(line)]


def recipients(source: Path, *, patch: Path | None = None, file: str = "") -> Recipients:
    """Ask the tree's get_maintainer.pl who gets a mail about a patch, or about a file of the source.

    Raises UsageError for a source without the script, HarnessError if it fails."""
    about: Sequence[str | Path] = [patch] if patch else ["-f", file]
    options = ["--no-git", "--no-git-fallback", "--roles"]  # a history would only add those who touched the lines
    command: list[str | Path] = [require("perl"), _script(source, _GET_MAINTAINER), *options, *about]
    found = [match for line in process.check(command, cwd=source) if (match := _ADDRESS.match(line.strip()))]
    to = tuple(match["who"] for match in found if match["role"].startswith(_RESPONSIBLE))
    return Recipients(to, tuple(match["who"] for match in found if match["who"] not in to))


def _script(source: Path, name: str) -> Path:
    script = source / name
    if not script.is_file():
        raise UsageError(f"{source} has no {name}", hint="name the top of a kernel source tree by --kernel")
    return script.resolve()
